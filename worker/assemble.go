package worker

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/job"
)

// assembly puts the outputs of a split job together again. Its pieces may be computed at the same time and finish in
// any order; the first that fails decides for all.
type assembly struct {
	rows int         // of the whole job
	over atomic.Bool // the outcome is decided

	mu     sync.Mutex
	pieces []piece
	have   int // rows
	infer  time.Duration
}

// piece is a copy of the outputs of some rows.
type piece struct {
	from    int
	outputs []job.Tensor
}

func (a *assembly) claim() bool { return a.over.CompareAndSwap(false, true) }

// add keeps the outputs of n rows and reports whether all rows are there now.
func (a *assembly) add(from, n int, outputs []job.Tensor, infer time.Duration) (complete bool) {
	p := piece{from: from, outputs: make([]job.Tensor, len(outputs))}
	for i := range outputs {
		p.outputs[i] = outputs[i]
		p.outputs[i].Shape = slices.Clone(outputs[i].Shape)
		p.outputs[i].Data = slices.Clone(outputs[i].Data)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pieces = append(a.pieces, p)
	a.have += n
	a.infer += infer
	return a.have == a.rows
}

// join returns the outputs of all rows in order.
func (a *assembly) join() ([]job.Tensor, time.Duration, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	slices.SortFunc(a.pieces, func(x, y piece) int { return x.from - y.from })
	first := a.pieces[0].outputs
	whole := make([]job.Tensor, len(first))
	for i := range first {
		size := 0
		for _, p := range a.pieces {
			if !slices.Equal(rowShape(p.outputs[i].Shape), rowShape(first[i].Shape)) {
				return nil, 0, fmt.Errorf("output %q differs in shape between the parts of a job that is larger than a batch; submit at most as many rows as a batch has", first[i].Name)
			}
			size += len(p.outputs[i].Data)
		}
		whole[i] = first[i]
		whole[i].Shape = slices.Clone(first[i].Shape)
		whole[i].Shape[0] = int64(a.rows)
		whole[i].Data = make([]byte, 0, size)
		for _, p := range a.pieces {
			whole[i].Data = append(whole[i].Data, p.outputs[i].Data...)
		}
	}
	a.pieces = nil
	return whole, a.infer, nil
}

// rowsEnd returns the offset behind n rows of t's data, which has been checked, that start at the offset. rows is how
// many rows t has in all. A row of BYTES has any length, so its elements are counted.
func rowsEnd(t *job.Tensor, rows, offset, n int) int {
	if t.Datatype != job.Bytes {
		return offset + n*(len(t.Data)/rows)
	}
	for range n * job.Elements(rowShape(t.Shape)) {
		offset += 4 + int(binary.LittleEndian.Uint32(t.Data[offset:]))
	}
	return offset
}
