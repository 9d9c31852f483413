package queue

import (
	"sync"

	"github.com/klauspost/compress/s2"
	"github.com/nats-io/nats.go"
)

// What a message costs JetStream goes by its bytes once it is large, and rows of numbers compress well. A body that says
// so in this header is an S2 block.
const (
	headerEncoding = "Content-Encoding"
	encodingS2     = "s2"
)

const (
	// packFrom is the least that is worth packing, packGain what must be saved, as a part of the body.
	packFrom = 16 << 10
	packGain = 8
	// maxUnpacked bounds what a packed body may claim to be.
	maxUnpacked = 64 << 20
)

// packBuffers hold what s2 writes before it is known how much that is.
var packBuffers = sync.Pool{New: func() any { return new([]byte) }}

// pack makes the body of a message smaller, if that is worth it.
func pack(m *nats.Msg) {
	if len(m.Data) < packFrom {
		return
	}
	buffer := packBuffers.Get().(*[]byte) //nolint:forcetypeassert // the pool's own
	defer packBuffers.Put(buffer)
	if need := s2.MaxEncodedLen(len(m.Data)); cap(*buffer) < need {
		*buffer = make([]byte, need)
	}
	packed := s2.Encode((*buffer)[:cap(*buffer)], m.Data)
	if len(packed) > len(m.Data)-len(m.Data)/packGain {
		return
	}
	m.Data = append([]byte(nil), packed...)
	m.Header.Set(headerEncoding, encodingS2)
}

// unpack returns the body of a message as its publisher wrote it, and takes the header away. A body that is not what the
// header says stays as it is: whoever decodes it says what is wrong.
func unpack(h nats.Header, body []byte) []byte {
	if h.Get(headerEncoding) != encodingS2 {
		return body
	}
	size, err := s2.DecodedLen(body)
	if err != nil || size > maxUnpacked {
		return body
	}
	plain, err := s2.Decode(nil, body)
	if err != nil {
		return body
	}
	h.Del(headerEncoding)
	return plain
}
