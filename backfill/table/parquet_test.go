package table_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// seekable is an Input that is read from anywhere.
type seekable struct {
	onDisk

	f *os.File
}

func (s seekable) ReaderAt() io.ReaderAt { return s.f }

func onFile(t testing.TB, name string) table.Input {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return seekable{onDisk{name}, f}
}

func openParquet(t testing.TB, in table.Input, at int64) table.Source {
	t.Helper()
	src, err := table.Open(in, table.Parquet, table.Plain, table.Options{At: table.Place{Row: at}})
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

// parquetOf writes rows to a file.
func parquetOf[T any](t testing.TB, rows []T, options ...parquet.WriterOption) table.Input {
	t.Helper()
	name := filepath.Join(t.TempDir(), "rows.parquet")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[T](f, options...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	return onFile(t, name)
}

// canonical writes JSON so that the same numbers are the same text.
func canonical(t testing.TB, text []byte) string {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	var walk func(v any) any
	walk = func(v any) any {
		switch v := v.(type) {
		case json.Number:
			if !strings.ContainsAny(v.String(), ".eE") {
				return v
			}
			f, err := v.Float64()
			if err != nil {
				t.Fatal(err)
			}
			return json.Number(strconv.FormatFloat(f, 'f', -1, 64))
		case []any:
			for i := range v {
				v[i] = walk(v[i])
			}
		case map[string]any:
			for k := range v {
				v[k] = walk(v[k])
			}
		}
		return v
	}
	out, err := json.Marshal(walk(v))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// line is a row as one object.
func line(b table.Block, columns []table.Column, row int) []byte {
	dst := []byte{'{'}
	for c := range columns {
		if c > 0 {
			dst = append(dst, ',')
		}
		dst = append(strconv.AppendQuote(dst, columns[c].Name), ':')
		dst = b.AppendCell(dst, row, c)
	}
	return append(dst, '}')
}

// lines reads a table to its end.
func lines(t testing.TB, src table.Source, at int64, n int) []string {
	t.Helper()
	var all []string
	for {
		b, err := src.Read(n)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if b.Rows() != int(min(int64(n), src.Rows()-at)) || b.Place() != (table.Place{Row: at}) || b.Next() != (table.Place{Row: at + int64(b.Rows())}) {
			t.Fatalf("a block of %d has %d rows, from %v to %v, after row %d", n, b.Rows(), b.Place(), b.Next(), at)
		}
		for row := range b.Rows() {
			if b.Line(row) != at+int64(row)+1 {
				t.Fatalf("row %d after %d is said to be number %d", row, at, b.Line(row))
			}
			all = append(all, canonical(t, line(b, src.Columns(), row)))
		}
		at = b.Next().Row
	}
}

// Dates and times are text in other formats, and to a model that is given them the numbers that are stored.
func TestParquetTimesAreNumbersToAModel(t *testing.T) {
	src := openParquet(t, onFile(t, "testdata/arrow1.parquet"), 0)
	p := plan(t, src, takes(x(job.FP64, 3)), table.Want{Inputs: map[string][]string{"x": {"date", "time", "clock"}}})
	d := read(t, src).Decode(p)
	if len(d.Bad) > 0 || len(d.Groups) != 1 {
		t.Fatalf("%+v", d)
	}
	var got []float64
	for b := d.Groups[0].Inputs[0].Data[:6*8]; len(b) > 0; b = b[8:] {
		got = append(got, math.Float64frombits(binary.LittleEndian.Uint64(b)))
	}
	if want := []float64{-31, -10e6, 0, -30, -9e6 + 1, 1800e3}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestParquetOfArrow reads files that pyarrow wrote, from each row on: all types, dictionaries that were given up, nulls and
// empty lists, several row groups, many pages, rows that span pages.
func TestParquetOfArrow(t *testing.T) {
	var want []string
	for text := range bytes.Lines(readFile(t, "testdata/arrow.jsonl")) {
		want = append(want, canonical(t, text))
	}
	for _, name := range []string{"testdata/arrow1.parquet", "testdata/arrow2.parquet"} {
		for at := range len(want) + 1 {
			for _, n := range []int{1, 7, 100} {
				src := openParquet(t, onFile(t, name), int64(at))
				if src.Rows() != int64(len(want)) {
					t.Fatalf("%s has %d rows", name, src.Rows())
				}
				got := lines(t, src, int64(at), n)
				if len(got) != len(want)-at {
					t.Fatalf("%s from row %d has %d rows", name, at, len(got))
				}
				for i := range got {
					if got[i] != want[at+i] {
						t.Fatalf("%s from row %d by %d: row %d is\n%s\nwant\n%s", name, at, n, at+i, got[i], want[at+i])
					}
				}
				if read, size := src.Consumed(); read != size {
					t.Errorf("%d bytes of %d are read at the end", read, size)
				}
			}
		}
	}
}

func TestParquetColumns(t *testing.T) {
	src := openParquet(t, onFile(t, "testdata/arrow1.parquet"), 0)
	var got strings.Builder
	for _, c := range src.Columns() {
		fmt.Fprintf(&got, "%s %s %d\n", c.Name, c.Kind, c.Length)
	}
	const want = `int8 integer -1
int32 integer -1
int64 integer -1
uint8 integer -1
uint32 integer -1
uint64 integer -1
half number -1
float number -1
double number -1
nan number -1
bool boolean -1
maybe boolean -1
text text -1
none text -1
category text -1
decimal number -1
date text -1
time text -1
utc text -1
millis text -1
clock text -1
list list -1
floats list 3
fixed list 2
bools list -1
texts list -1
nested list -1
struct integer -1
nothing object -1
pair object -1
map object -1
`
	if got.String() != want {
		t.Errorf("got\n%s", got.String())
	}
}

// TestParquetSkips goes on at any row of columns that the library would slice: bits, lists, and pages of either version.
func TestParquetSkips(t *testing.T) {
	type row struct {
		Bit    bool    `parquet:"bit"`
		Maybe  *bool   `parquet:"maybe"`
		List   []int64 `parquet:"list,list"`
		Plain  []int32 `parquet:"plain"`
		Word   string  `parquet:"word,dict"`
		Number float64 `parquet:"number"`
	}
	var rows []row
	for i := range 300 {
		r := row{Bit: i%3 == 0, Word: strings.Repeat("w", i%7), Number: float64(i)}
		if i%4 > 0 {
			b := i%5 == 0
			r.Maybe = &b
		}
		for k := range i % 6 {
			r.List, r.Plain = append(r.List, int64(k*i)), append(r.Plain, int32(i-k))
		}
		rows = append(rows, r)
	}
	for _, version := range []int{1, 2} {
		in := parquetOf(t, rows, parquet.DataPageVersion(version), parquet.PageBufferSize(100), parquet.MaxRowsPerRowGroup(70))
		src := openParquet(t, in, 0)
		want := lines(t, src, 0, 1000)
		for i := range rows {
			text, err := json.Marshal(map[string]any{
				"bit": rows[i].Bit, "maybe": rows[i].Maybe, "list": append([]int64{}, rows[i].List...),
				"plain": append([]int32{}, rows[i].Plain...), "word": rows[i].Word, "number": rows[i].Number,
			})
			if err != nil {
				t.Fatal(err)
			}
			if want[i] != canonical(t, text) {
				t.Fatalf("row %d is %s, want %s", i, want[i], text)
			}
		}
		for at := range len(rows) {
			for _, n := range []int{3, 90} {
				from := openParquet(t, in, int64(at))
				b, err := from.Read(n)
				if err != nil {
					t.Fatal(err)
				}
				for r := range b.Rows() {
					if got := canonical(t, line(b, from.Columns(), r)); got != want[at+r] {
						t.Fatalf("version %d, from %d: row %d is %s, want %s", version, at, at+r, got, want[at+r])
					}
				}
			}
		}
	}
}
