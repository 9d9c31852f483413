package table_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// onDisk is an Input that is a real file.
type onDisk struct{ name string }

func (d onDisk) Size() int64 {
	info, err := os.Stat(d.name)
	if err != nil {
		return -1
	}
	return info.Size()
}

func (d onDisk) From(offset int64) (io.ReadCloser, error) {
	f, err := os.Open(d.name)
	if err != nil {
		return nil, err
	}
	_, err = f.Seek(offset, io.SeekStart)
	return f, err
}

func (onDisk) ReaderAt() io.ReaderAt { return nil }

// pipe is an Input that cannot go back, and gives little at a time.
type pipe struct {
	r    io.Reader
	used bool
}

func (p *pipe) Size() int64           { return -1 }
func (p *pipe) ReaderAt() io.ReaderAt { return nil }
func (p *pipe) From(offset int64) (io.ReadCloser, error) {
	if p.used || offset != 0 {
		return nil, errors.New("a pipe cannot go back")
	}
	p.used = true
	return io.NopCloser(p.r), nil
}

// failer is what tests of both kinds have.
type failer interface {
	Helper()
	Fatal(args ...any)
}

func pack(t failer, c table.Compression, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	switch c {
	case table.Plain:
		return text
	case table.Gzip:
		w = gzip.NewWriter(&b)
	case table.Zstd:
		z, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unpack(t failer, c table.Compression, packed []byte) []byte {
	t.Helper()
	var r io.Reader = bytes.NewReader(packed)
	var err error
	switch c {
	case table.Plain:
	case table.Gzip:
		r, err = gzip.NewReader(r)
	case table.Zstd:
		r, err = zstd.NewReader(r)
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// file writes a file and returns it as an Input.
func file(t testing.TB, text []byte) table.Input {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rows")
	if err := os.WriteFile(name, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return onDisk{name}
}

func open(t testing.TB, f table.Format, text string, o table.Options) table.Source {
	t.Helper()
	src, err := table.Open(file(t, []byte(text)), f, table.Plain, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	})
	return src
}

// read returns the whole table as one block.
func read(t testing.TB, src table.Source) table.Block {
	t.Helper()
	b, err := src.Read(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// takes is a model with the inputs given; the shapes are of a row.
func takes(inputs ...model.TensorSpec) *model.Info {
	info := &model.Info{Name: "m", Version: "1", Signature: model.Signature{Batchable: true}}
	for _, in := range inputs {
		in.Shape = append([]int64{-1}, in.Shape...)
		info.Signature.Inputs = append(info.Signature.Inputs, in)
	}
	return info
}

func x(dt job.Datatype, shape ...int64) model.TensorSpec {
	return model.TensorSpec{Name: "x", Datatype: dt, Shape: shape}
}

func plan(t testing.TB, src table.Source, info *model.Info, want table.Want) *table.Plan {
	t.Helper()
	p, err := table.NewPlan(src.Columns(), info, want)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// floats is raw FP32 data.
func floats(values ...float64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return b
}

// valid parses lines of JSON.
func valid(t testing.TB, text []byte) []map[string]any {
	t.Helper()
	var rows []map[string]any
	for line := range bytes.Lines(text) {
		var row map[string]any
		if err := json.Unmarshal(line, &row); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		rows = append(rows, row)
	}
	return rows
}

// created is an empty file to write to.
func created(t testing.TB) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func content(t testing.TB, f *os.File) []byte {
	t.Helper()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return text
}
