package table

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/rle"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// pqWriter writes a segment. The library's own writer takes each value by itself, which costs more than all the rest.
type pqWriter struct {
	w       io.Writer
	columns []pqOut
	open    []pqData   // rows that are in no page yet
	pages   [][][]byte // compressed, of the row group
	chunks  []format.ColumnMetaData
	meta    *format.FileMetaData
	at      int64 // bytes written
	rows    int64 // of the row group
	held    int   // bytes of its pages
	scratch []byte
}

// newPQWriter begins a segment.
func newPQWriter(w io.Writer, columns []pqOut, meta *format.FileMetaData) *pqWriter {
	m := *meta
	return &pqWriter{w: w, columns: columns, open: make([]pqData, len(columns)), pages: make([][][]byte, len(columns)), chunks: make([]format.ColumnMetaData, len(columns)), meta: &m}
}

// pqTemplate writes a file without rows, for what the library says of the schema.
func pqTemplate(schema *parquet.Schema, columns []pqOut) (*format.FileMetaData, error) {
	var b bytes.Buffer
	if err := parquet.NewGenericWriter[any](&b, schema).Close(); err != nil {
		return nil, err
	}
	f, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		return nil, err
	}
	for i, node := range f.Root().Columns() {
		o := &columns[i]
		o.maxRep, o.maxDef, _, _ = levels(node)
		for o.leaf = node; !o.leaf.Leaf(); {
			o.leaf = o.leaf.Columns()[0]
		}
	}
	m := *f.Metadata()
	m.RowGroups, m.NumRows = nil, 0
	return &m, nil
}

func (w *pqWriter) write(b []byte) error {
	n, err := w.w.Write(b)
	w.at += int64(n)
	return err
}

// append adds rows.
func (w *pqWriter) append(p *pqPiece) error {
	for i := range p.columns {
		from, to := &p.columns[i], &w.open[i]
		if to.entries > 0 && (len(to.values)+len(from.values) > pqPageBytes || to.entries+from.entries > pqPageBytes) {
			if err := w.page(i); err != nil {
				return err
			}
		}
		to.entries += from.entries
		to.rep, to.def, to.values = append(to.rep, from.rep...), append(to.def, from.def...), append(to.values, from.values...)
	}
	if w.rows += p.rows; w.rows >= pqGroupRows || w.held >= pqGroupBytes {
		return w.flush()
	}
	return nil
}

// page makes a page of a column's open rows.
func (w *pqWriter) page(i int) error {
	o, d, chunk := &w.columns[i], &w.open[i], &w.chunks[i]
	body := w.scratch[:0]
	var err error
	if body, err = appendLevels(body, d.rep, o.maxRep); err != nil {
		return err
	}
	if body, err = appendLevels(body, d.def, o.maxDef); err != nil {
		return err
	}
	if o.leaf.Type().Kind() == parquet.Boolean {
		body = appendBits(body, d.values)
	} else {
		body = append(body, d.values...)
	}
	w.scratch = body
	if len(body) > pqMaxPage || d.entries > pqMaxEntries {
		return fmt.Errorf("column %s: %d cells or elements of %d bytes in all came at once, which does not fit a page", clip(o.name), d.entries, len(body))
	}
	packed, err := parquet.Snappy.Encode(nil, body)
	if err != nil {
		return err
	}
	h := format.PageHeader{Type: format.DataPage, UncompressedPageSize: int32(len(body)), CompressedPageSize: int32(len(packed))} //nolint:gosec // it has been seen to fit
	h.DataPageHeader.Valid = true
	nulls := int64(0)
	if o.maxDef > 0 {
		nulls = int64(d.entries - bytes.Count(d.def, []byte{o.maxDef}))
	}
	h.DataPageHeader.V = format.DataPageHeader{
		Statistics: format.Statistics{NullCount: nulls},                                                                                // which the library writes even if it was not said
		NumValues:  int32(d.entries), Encoding: format.Plain, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE, //nolint:gosec // no more than bytes
	}
	header, err := thrift.Marshal(new(thrift.CompactProtocol), &h)
	if err != nil {
		return err
	}
	w.pages[i] = append(w.pages[i], header, packed)
	w.held += len(header) + len(packed)
	chunk.Statistics.NullCount += nulls
	chunk.NumValues += int64(d.entries)
	chunk.TotalCompressedSize += int64(len(header) + len(packed))
	chunk.TotalUncompressedSize += int64(len(header) + len(body))
	*d = pqData{rep: d.rep[:0], def: d.def[:0], values: d.values[:0]}
	return nil
}

// appendLevels encodes levels as a page of version 1 has them.
func appendLevels(dst, levels []byte, highest byte) ([]byte, error) {
	if highest == 0 {
		return dst, nil
	}
	packed, err := (&rle.Encoding{BitWidth: bits.Len8(highest)}).EncodeLevels(nil, levels)
	if err != nil {
		return nil, err
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(packed))) //nolint:gosec // there are fewer than levels
	return append(dst, packed...), nil
}

// appendBits packs booleans.
func appendBits(dst, values []byte) []byte {
	for i, v := range values {
		if i%8 == 0 {
			dst = append(dst, 0)
		}
		dst[len(dst)-1] |= (v & 1) << (i % 8)
	}
	return dst
}

// flush writes a row group.
func (w *pqWriter) flush() error {
	if w.rows == 0 {
		return nil
	}
	if err := w.begin(); err != nil {
		return err
	}
	g := format.RowGroup{NumRows: w.rows, FileOffset: w.at, Ordinal: int16(min(len(w.meta.RowGroups), math.MaxInt16))}
	for i := range w.columns {
		if err := w.page(i); err != nil {
			return err
		}
		o, m := &w.columns[i], &w.chunks[i]
		m.Type, m.Codec, m.Encoding = format.Type(o.leaf.Type().Kind()), format.Snappy, []format.Encoding{format.Plain, format.RLE}
		m.PathInSchema, m.DataPageOffset = o.leaf.Path(), w.at
		for _, b := range w.pages[i] {
			if err := w.write(b); err != nil {
				return err
			}
		}
		g.TotalByteSize += m.TotalUncompressedSize
		g.TotalCompressedSize += m.TotalCompressedSize
		g.Columns = append(g.Columns, format.ColumnChunk{MetaData: *m})
		w.chunks[i], w.pages[i] = format.ColumnMetaData{}, nil
	}
	w.meta.RowGroups = append(w.meta.RowGroups, g)
	w.meta.NumRows += w.rows
	w.rows, w.held = 0, 0
	return nil
}

// begin writes what a file begins with.
func (w *pqWriter) begin() error {
	if w.at > 0 {
		return nil
	}
	return w.write([]byte(pqMagic))
}

// close ends the segment.
func (w *pqWriter) close() error {
	if err := w.flush(); err != nil {
		return err
	}
	if err := w.begin(); err != nil {
		return err
	}
	footer, err := marshalFooter(w.meta)
	if err != nil {
		return err
	}
	return w.write(footer)
}

// marshalFooter makes the end of a file.
func marshalFooter(m *format.FileMetaData) ([]byte, error) {
	footer, err := thrift.Marshal(new(thrift.CompactProtocol), m)
	if err != nil {
		return nil, fmt.Errorf("encode the footer: %w", err)
	}
	footer = binary.LittleEndian.AppendUint32(footer, uint32(len(footer))) //nolint:gosec // it is far smaller
	return append(footer, pqMagic...), nil
}
