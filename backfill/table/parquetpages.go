package table

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

const (
	// pqMaxPage and pqMaxEntries bound a page. Others write pages of about a megabyte; what a damaged file says of itself is
	// not a reason to take all memory.
	pqMaxPage    = 256 << 20
	pqMaxEntries = 128 << 20
	// pqHeader is what is read of a page to have its header; one with long bounds of its texts is read in full after that.
	pqHeader = 256
)

// pqPages reads the pages of a column chunk. It looks at each header before the library, which takes as much memory as one
// says without a question.
type pqPages struct {
	parquet.Pages
	r       io.ReaderAt
	codec   format.CompressionCodec
	at, end int64 // of the next header, and of the chunk
}

// newPQPages begins to read a chunk of a file of so many bytes.
func newPQPages(r io.ReaderAt, size int64, chunk parquet.ColumnChunk, m *format.ColumnMetaData) (*pqPages, error) {
	if m.Codec == format.Lz4Raw {
		// The library takes ever more memory for a damaged page of these, until there is none.
		return nil, errors.New("compression by LZ4 is not supported; write the file with snappy or zstd")
	}
	p := &pqPages{r: r, codec: m.Codec, at: m.DataPageOffset}
	if m.DictionaryPageOffset != 0 {
		p.at = m.DictionaryPageOffset
	}
	p.end = p.at + m.TotalCompressedSize
	if p.at < 0 || m.TotalCompressedSize < 0 || p.end > size || p.end < p.at {
		return nil, fmt.Errorf("%w: a column from byte %d to %d of %d", errCorrupt, p.at, p.end, size)
	}
	p.Pages = chunk.Pages()
	return p, nil
}

// read returns the next page that has entries.
func (p *pqPages) read() (parquet.Page, error) {
	for p.at < p.end {
		h, err := p.header()
		if err != nil {
			return nil, err
		}
		entries := max(h.DataPageHeader.V.NumValues, h.DataPageHeaderV2.V.NumValues, h.DictionaryPageHeader.V.NumValues)
		if h.CompressedPageSize < 0 || int64(h.CompressedPageSize) > p.end-p.at || h.UncompressedPageSize > pqMaxPage || entries > pqMaxEntries {
			return nil, fmt.Errorf("%w: a page of %d bytes, %d decompressed, with %d entries", errCorrupt, h.CompressedPageSize, h.UncompressedPageSize, entries)
		}
		size, err := p.unpacked(h)
		if err != nil {
			return nil, err
		}
		if size > pqMaxPage {
			return nil, fmt.Errorf("%w: a page of %d bytes decompressed", errCorrupt, size)
		}
		p.at += int64(h.CompressedPageSize)
		switch {
		case h.Type == format.DictionaryPage:
		case entries == 0:
			p.pass()
		default:
			return p.ReadPage()
		}
	}
	return nil, io.EOF
}

// unpacked is what the compressed data of a page says of its size: it need not be what the header says, and the library
// takes as much. 0 if it does not say it.
func (p *pqPages) unpacked(h *format.PageHeader) (uint64, error) {
	at, size := p.at, int64(h.CompressedPageSize)
	if h.Type == format.DataPageV2 {
		v2 := &h.DataPageHeaderV2.V
		if v2.IsCompressed.Valid && !v2.IsCompressed.V {
			return 0, nil
		}
		levels := max(0, int64(v2.RepetitionLevelsByteLength)) + max(0, int64(v2.DefinitionLevelsByteLength))
		at, size = at+levels, size-levels
	}
	if p.codec != format.Zstd && p.codec != format.Snappy || size <= 0 {
		return 0, nil
	}
	b := make([]byte, min(zstd.HeaderMaxSize, size))
	if _, err := io.ReadFull(io.NewSectionReader(p.r, at, size), b); err != nil {
		return 0, fmt.Errorf("read a page: %w", err)
	}
	if p.codec == format.Snappy {
		n, _ := binary.Uvarint(b)
		return n, nil
	}
	var frame zstd.Header
	if frame.Decode(b) != nil {
		return 0, nil // what is wrong is said when it is decompressed
	}
	return frame.FrameContentSize, nil
}

// pass reads a page without entries, as pyarrow writes some. The library fails on it, but only after it has been read.
func (p *pqPages) pass() {
	defer func() { _ = recover() }()
	if page, err := p.ReadPage(); err == nil {
		parquet.Release(page)
	}
}

// header reads the header of the next page and goes behind it.
func (p *pqPages) header() (*format.PageHeader, error) {
	for size := min(pqHeader, p.end-p.at); ; size = min(64*size, p.end-p.at) {
		b := make([]byte, size)
		if n, err := p.r.ReadAt(b, p.at); int64(n) < size {
			return nil, fmt.Errorf("read the header of a page: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		h, r := new(format.PageHeader), new(thrift.CompactProtocol).NewReaderFromBytes(b)
		err := thrift.NewDecoder(r).Decode(h)
		if err == nil {
			p.at += int64(r.BytesRead())
			return h, nil
		}
		if size == p.end-p.at || size >= pqMaxPage {
			return nil, fmt.Errorf("%w: the header of a page: %w", errCorrupt, err)
		}
	}
}
