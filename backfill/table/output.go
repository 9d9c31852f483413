package table

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// textPiece is encoded rows of JSON lines or CSV.
type textPiece struct {
	text []byte
	rows int
}

// output writes a file of text that can be continued after each commit. JSON lines and CSV have it in common.
type output struct {
	f      File
	w      *bufio.Writer
	z      compressor // nil: none
	open   bool       // z has a member or frame that is not closed
	mark   Mark       // of what has been written so far
	header []byte     // what the file begins with
}

func newOutput(f File, c Compression, mark *Mark, header []byte) (*output, error) {
	o := &output{f: f, header: header}
	var err error
	if o.z, err = newCompressor(c); err != nil {
		return nil, err
	}
	if mark != nil {
		o.mark = Mark{Offset: mark.Offset, Rows: mark.Rows}
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return nil, fmt.Errorf("go on with the output: %w", err)
		}
		if size < mark.Offset {
			return nil, fmt.Errorf("the output has %d bytes and should have at least %d: it has been changed since", size, mark.Offset)
		}
	}
	if err := f.Truncate(o.mark.Offset); err != nil {
		return nil, fmt.Errorf("cut the output at byte %d: %w", o.mark.Offset, err)
	}
	if _, err := f.Seek(o.mark.Offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("go to byte %d of the output: %w", o.mark.Offset, err)
	}
	o.w = bufio.NewWriterSize(&tally{f, &o.mark.Offset}, 256<<10)
	return o, nil
}

// tally counts what is written.
type tally struct {
	io.Writer
	n *int64
}

func (t *tally) Write(b []byte) (int, error) {
	n, err := t.Writer.Write(b)
	*t.n += int64(n)
	return n, err
}

// begin writes the header, once in the life of the file.
func (o *output) begin() error {
	if o.mark.Offset > 0 || len(o.header) == 0 {
		return nil
	}
	header := o.header
	o.header = nil
	return o.write(header)
}

func (o *output) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	w := io.Writer(o.w)
	if o.z != nil {
		if !o.open {
			o.z.Reset(o.w)
			o.open = true
		}
		w = o.z
	}
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// Append implements Sink.
func (o *output) Append(p Piece) error {
	piece, ok := p.(textPiece)
	if !ok {
		return fmt.Errorf("a piece of another sink: %T", p)
	}
	if err := o.begin(); err != nil {
		return err
	}
	o.mark.Rows += int64(piece.rows)
	return o.write(piece.text)
}

// Commit implements Sink.
func (o *output) Commit() (Mark, error) {
	if err := o.begin(); err != nil {
		return Mark{}, err
	}
	if err := o.close(); err != nil {
		return Mark{}, fmt.Errorf("write the output: %w", err)
	}
	if err := o.f.Sync(); err != nil {
		return Mark{}, fmt.Errorf("sync the output: %w", err)
	}
	return o.mark, nil
}

// close ends the member or the frame and has all of it in the file.
func (o *output) close() error {
	if !o.open {
		return o.w.Flush()
	}
	o.open = false
	return errors.Join(o.z.Close(), o.w.Flush())
}

// Finish implements Sink. A compressed file without a row is still one of its kind.
func (o *output) Finish() error {
	if err := o.begin(); err != nil {
		return err
	}
	if o.z != nil && !o.open && o.mark.Offset == 0 {
		o.z.Reset(o.w)
		o.open = true
	}
	_, err := o.Commit()
	return err
}
