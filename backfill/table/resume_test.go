package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// TestSourceGoesOn reads tables in parts, and has each row where an undisturbed reading has it.
func TestSourceGoesOn(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]table.Format{table.JSONL, table.CSV}).Draw(t, "format")
		c := rapid.SampledFrom([]table.Compression{table.Plain, table.Gzip, table.Zstd}).Draw(t, "compression")
		o := table.Options{MaxLine: 60, NoHeader: rapid.Bool().Draw(t, "no header")}
		row := rapid.SampledFrom([]string{"[1,2]", `{"a":[1]}`, "", "1,2", "\"a\nb\",2", `"a""b",`, "broken", `"x"y`, strings.Repeat("z", 61), "\"\r\n\"", "é,\xff"})
		var text bytes.Buffer
		if rapid.Bool().Draw(t, "mark") {
			text.WriteString("\xef\xbb\xbf")
		}
		text.WriteString(map[table.Format]string{table.JSONL: `{"a":1}`, table.CSV: "a,b"}[f] + "\n")
		for range rapid.IntRange(0, 300).Draw(t, "rows") {
			text.WriteString(row.Draw(t, "row") + rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end"))
		}
		if rapid.Bool().Draw(t, "open end") {
			text.Truncate(text.Len() - 1)
		}
		packed := pack(t, c, text.Bytes())
		name := dir + "/in"
		if err := os.WriteFile(name, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		all := rowsOf(t, onDisk{name}, f, c, o, 0, 1<<20)
		n := rapid.IntRange(1, 150).Draw(t, "rows at once")
		var parts []string
		for {
			var in table.Input = onDisk{name}
			if rapid.Bool().Draw(t, "pipe") {
				in = &pipe{r: iotest.HalfReader(bytes.NewReader(packed))}
			}
			blocks := rapid.IntRange(1, 3).Draw(t, "blocks")
			got := rowsOf(t, in, f, c, o, blocks, n)
			parts = append(parts, got.rows...)
			if got.columns != all.columns {
				t.Fatalf("the columns are %s and %s", got.columns, all.columns)
			}
			if got.ended {
				break
			}
			o.At = got.next
		}
		if fmt.Sprintf("%q", parts) != fmt.Sprintf("%q", all.rows) {
			t.Fatalf("in parts of %d:\n%q\nin one:\n%q", n, parts, all.rows)
		}
	})
}

type reading struct {
	rows    []string
	columns string
	next    table.Place
	ended   bool
}

// rowsOf reads so many blocks, or all for 0.
func rowsOf(t rapid.TB, in table.Input, f table.Format, c table.Compression, o table.Options, blocks, n int) reading {
	src, err := table.Open(in, f, c, o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := src.Close(); err != nil {
			t.Error(err)
		}
	}()
	r := reading{columns: fmt.Sprint(src.Columns()), next: o.At}
	sink := errorsOf(t, src, f)
	for i := 0; i < blocks || blocks == 0; i++ {
		b, err := src.Read(n)
		if errors.Is(err, io.EOF) {
			r.ended = true
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.Place().Row != r.next.Row || i > 0 && b.Place() != r.next {
			t.Fatalf("a block begins at %+v, after one that ends at %+v", b.Place(), r.next)
		}
		r.next = b.Next()
		for row := range b.Rows() {
			p, err := sink.Encode(b, []table.Answer{{Row: row}})
			if err != nil {
				t.Fatal(err)
			}
			r.rows = append(r.rows, fmt.Sprint(b.Place().Row+int64(row), b.Line(row), p))
		}
	}
	return r
}

func errorsOf(t rapid.TB, src table.Source, f table.Format) table.Sink {
	sink, err := table.NewSink(&buffer{}, table.Spec{Format: f, Errors: true, Columns: src.Columns(), ID: -1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sink
}

// buffer is a File for a Sink that only encodes, or begins anew and goes to its end.
type buffer struct{ bytes.Buffer }

func (*buffer) Truncate(int64) error              { return nil }
func (*buffer) Seek(int64, int) (int64, error)    { return 0, nil }
func (*buffer) ReadAt([]byte, int64) (int, error) { return 0, io.EOF }
func (*buffer) Sync() error                       { return nil }

// unsynced is a file that costs less: a crash of the process loses nothing of it.
type unsynced struct{ *os.File }

func (unsynced) Sync() error { return nil }

// TestSinkGoesOn writes tables with crashes: what was not committed may stand in the file or not, whole or not.
func TestSinkGoesOn(t *testing.T) {
	src := open(t, table.CSV, "id\n"+strings.Repeat("7\n", 400), table.Options{})
	block := read(t, src)
	name := t.TempDir() + "/out"
	rapid.Check(t, func(t *rapid.T) {
		spec := table.Spec{
			Format:      rapid.SampledFrom([]table.Format{table.JSONL, table.CSV}).Draw(t, "format"),
			Compression: rapid.SampledFrom([]table.Compression{table.Plain, table.Gzip, table.Zstd}).Draw(t, "compression"),
			Columns:     src.Columns(), ID: 0,
			Predicted: []table.Predicted{{Column: "p", Datatype: job.FP32, Shape: []int64{1}}},
		}
		rows := rapid.IntRange(0, 400).Draw(t, "rows")
		outputs := []job.Tensor{{Datatype: job.FP32, Shape: []int64{400, 1}, Data: make([]byte, 1600)}}
		crash := rapid.Float64Range(0, .5).Draw(t, "crashes")
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		var mark *table.Mark
		for ended := false; !ended; {
			f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			sink, err := table.NewSink(unsynced{f}, spec, mark)
			if err != nil {
				t.Fatal(err)
			}
			at := 0
			if mark != nil {
				at = int(mark.Rows)
				good := unpack(t, spec.Compression, readFile(t, name))
				if lines := bytes.Count(good, []byte{'\n'}); lines != at && (spec.Format != table.CSV || lines != at+1) {
					t.Fatalf("at the mark of %d rows the file has %d lines", at, lines)
				}
			}
			for at < rows && rapid.Float64Range(0, 1).Draw(t, "crash") >= crash {
				n := min(rapid.IntRange(1, 60).Draw(t, "piece"), rows-at)
				var answers []table.Answer
				for k := range n {
					answers = append(answers, table.Answer{Row: at + k, Outputs: outputs, At: at + k})
				}
				piece, err := sink.Encode(block, answers)
				if err != nil {
					t.Fatal(err)
				}
				if err := sink.Append(piece); err != nil {
					t.Fatal(err)
				}
				at += n
				if rapid.Bool().Draw(t, "commit") {
					m, err := sink.Commit()
					if err != nil || m.Rows != int64(at) {
						t.Fatalf("after %d rows the mark is %+v, %v", at, m, err)
					}
					mark = &m
				}
			}
			if ended = at == rows; ended {
				if err := sink.Finish(); err != nil {
					t.Fatal(err)
				}
			} else if _, err := f.Write(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "garbage")); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		var want strings.Builder
		if spec.Format == table.CSV {
			want.WriteString("sheaf_row,id,p\n")
		}
		for k := range rows {
			if spec.Format == table.CSV {
				fmt.Fprintf(&want, "%d,7,0\n", k+1)
			} else {
				fmt.Fprintf(&want, "{\"sheaf_row\":%d,\"id\":7,\"p\":[0]}\n", k+1)
			}
		}
		packed := readFile(t, name)
		if got := string(unpack(t, spec.Compression, packed)); got != want.String() {
			t.Fatalf("got\n%s\nwant\n%s", got, want.String())
		}
		// What is written is read.
		if spec.Format == table.CSV {
			back := rowsOf(t, onDisk{name}, spec.Format, spec.Compression, table.Options{}, 0, 100)
			if len(back.rows) != rows {
				t.Fatalf("%d rows came back of %d", len(back.rows), rows)
			}
		}
	})
}

func TestSinkThatLostItsFile(t *testing.T) {
	f := created(t)
	spec := table.Spec{Format: table.JSONL, ID: -1}
	if _, err := table.NewSink(f, spec, &table.Mark{Offset: 5}); err == nil || !strings.Contains(err.Error(), "has 0 bytes and should have at least 5") {
		t.Errorf("got %v", err)
	}
	src := table.Options{At: table.Place{Row: 9, Line: 10, Offset: 1 << 30}}
	for _, c := range []table.Compression{table.Plain, table.Gzip} {
		text := pack(t, c, []byte(strings.Repeat("[1]\n", 500)))
		if _, err := table.Open(file(t, text), table.JSONL, c, src); err == nil || !strings.Contains(err.Error(), "it is another one than before") {
			t.Errorf("%s: got %v", c, err)
		}
	}
}

func TestConsumed(t *testing.T) {
	text := []byte(strings.Repeat("[1]\n", 500))
	src := open(t, table.JSONL, string(text), table.Options{})
	for {
		if _, err := src.Read(100); errors.Is(err, io.EOF) {
			break
		}
	}
	if n, size := src.Consumed(); n != int64(len(text)) || size != n {
		t.Errorf("%d of %d bytes are read, want %d", n, size, len(text))
	}
	if src.Rows() != -1 {
		t.Error("lines cannot be known before they are read")
	}
}

func readFile(t rapid.TB, name string) []byte {
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
