package table_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// TestParquetSinkGoesOn writes tables with crashes.
func TestParquetSinkGoesOn(t *testing.T) {
	src := openParquet(t, onFile(t, "testdata/arrow1.parquet"), 0)
	block := read(t, src)
	list := slices.IndexFunc(src.Columns(), func(c table.Column) bool { return c.Name == "list" })
	name := t.TempDir() + "/out"
	rapid.Check(t, func(rt *rapid.T) {
		spec := table.Spec{
			Format: table.Parquet, Columns: src.Columns(), ID: list,
			Predicted: []table.Predicted{{Column: "p", Datatype: job.FP32, Shape: []int64{2}}},
		}
		rows := rapid.IntRange(0, block.Rows()).Draw(rt, "rows")
		outputs := []job.Tensor{{Datatype: job.FP32, Shape: []int64{int64(block.Rows()), 2}}}
		for row := range block.Rows() {
			outputs[0].Data = append(outputs[0].Data, floats(float64(row), .5)...)
		}
		crash := rapid.Float64Range(0, .5).Draw(rt, "crashes")
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			rt.Fatal(err)
		}
		var mark *table.Mark
		for ended := false; !ended; {
			f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
			if err != nil {
				rt.Fatal(err)
			}
			sink, err := table.NewSink(unsynced{f}, spec, mark)
			if err != nil {
				rt.Fatal(err)
			}
			at := 0
			if mark != nil {
				at = int(mark.Rows)
				if size := len(readFile(rt, name)); int64(size) != mark.Offset {
					rt.Fatalf("at the mark %+v the file has %d bytes", mark, size)
				}
			}
			for at < rows && rapid.Float64Range(0, 1).Draw(rt, "crash") >= crash {
				n := min(rapid.IntRange(1, 9).Draw(rt, "piece"), rows-at)
				var answers []table.Answer
				for k := range n {
					answers = append(answers, table.Answer{Row: at + k, Outputs: outputs, At: at + k})
				}
				piece, err := sink.Encode(block, answers)
				if err != nil {
					rt.Fatal(err)
				}
				if err := sink.Append(piece); err != nil {
					rt.Fatal(err)
				}
				at += n
				if rapid.Bool().Draw(rt, "commit") {
					m, err := sink.Commit()
					if err != nil || m.Rows != int64(at) {
						rt.Fatalf("after %d rows the mark is %+v, %v", at, m, err)
					}
					mark = &m
				}
			}
			if ended = at == rows; ended {
				if err := sink.Finish(); err != nil {
					rt.Fatal(err)
				}
				if mark != nil && rapid.Bool().Draw(rt, "finished twice") {
					ended = false // the crash was before anybody noted the end
				}
			} else if _, err := f.Write(rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(rt, "garbage")); err != nil {
				rt.Fatal(err)
			}
			if err := f.Close(); err != nil {
				rt.Fatal(err)
			}
		}
		got := lines(t, openParquet(t, onFile(t, name), 0), 0, rapid.IntRange(1, 40).Draw(rt, "block"))
		if len(got) != rows {
			rt.Fatalf("%d rows came back of %d", len(got), rows)
		}
		for row := range rows {
			want := canonical(t, fmt.Appendf(nil, `{"sheaf_row":%d,"list":%s,"p":[%d,0.5]}`, row+1, block.AppendCell(nil, row, list), row))
			if got[row] != want {
				rt.Fatalf("row %d is %s, want %s", row, got[row], want)
			}
		}
		// Others than us read it, by the last footer.
		type result struct {
			Row int64 `parquet:"sheaf_row"`
		}
		back, err := parquet.ReadFile[result](name)
		if err != nil || len(back) != rows || rows > 0 && back[rows-1].Row != int64(rows) {
			rt.Fatalf("the library reads %s rows: %v", strconv.Itoa(len(back)), err)
		}
	})
}

// rewritten is the file of a sink that commits after every few rows.
func rewritten(t testing.TB, spec table.Spec, b table.Block, answers []table.Answer) string {
	t.Helper()
	f := created(t)
	sink, err := table.NewSink(f, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(answers, 7) {
		piece, err := sink.Encode(b, part)
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Append(piece); err != nil {
			t.Fatal(err)
		}
		if _, err := sink.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Finish(); err != nil {
		t.Fatal(err)
	}
	return f.Name()
}

// checkNulls holds what a file says of its nulls, which others plan by, to what it has.
func checkNulls(t testing.TB, name string) {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	f, err := parquet.OpenFile(file, onDisk{name}.Size())
	if err != nil {
		t.Fatal(err)
	}
	all := int64(0)
	for g, group := range f.RowGroups() {
		for c, chunk := range group.ColumnChunks() {
			m := &f.Metadata().RowGroups[g].Columns[c].MetaData
			nulls, entries := int64(0), int64(0)
			pages := chunk.Pages()
			for {
				page, err := pages.ReadPage()
				if err != nil {
					break
				}
				nulls, entries = nulls+page.NumNulls(), entries+page.NumValues()
			}
			if err := pages.Close(); err != nil {
				t.Fatal(err)
			}
			if m.Statistics.NullCount != nulls || m.NumValues != entries {
				t.Errorf("group %d, column %v: said %d nulls in %d entries, there are %d in %d", g, m.PathInSchema, m.Statistics.NullCount, m.NumValues, nulls, entries)
			}
			all += nulls
		}
	}
	if all == 0 {
		t.Error("no nulls were looked for")
	}
}

// TestParquetLargeFile has several row groups, and columns of several pages.
func TestParquetLargeFile(t *testing.T) {
	const rows, at = 150_000, 5_000
	b := read(t, open(t, table.CSV, "a\n"+strings.Repeat("1\n", at), table.Options{}))
	spec := table.Spec{Format: table.Parquet, ID: -1, Predicted: []table.Predicted{
		{Column: "p", Datatype: job.Int64, Shape: []int64{1}},
		{Column: "b", Output: 1, Datatype: job.Bool, Shape: []int64{3}},
	}}
	f := created(t)
	sink, err := table.NewSink(unsynced{f}, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for first := 0; first < rows; first += at {
		outputs := []job.Tensor{{Datatype: job.Int64, Shape: []int64{at, 1}}, {Datatype: job.Bool, Shape: []int64{at, 3}}}
		answers := make([]table.Answer, at)
		for k := range answers {
			outputs[0].Data = binary.LittleEndian.AppendUint64(outputs[0].Data, uint64(first+k))
			outputs[1].Data = append(outputs[1].Data, byte(k&1), 1, byte(k>>1&1))
			answers[k] = table.Answer{Row: k, At: k}
		}
		for k := range answers {
			answers[k].Outputs = outputs
		}
		piece, err := sink.Encode(b, answers)
		if err != nil {
			t.Fatal(err)
		}
		if err := sink.Append(piece); err != nil {
			t.Fatal(err)
		}
	}
	if err := sink.Finish(); err != nil {
		t.Fatal(err)
	}
	back := openParquet(t, onFile(t, f.Name()), 0)
	for row := 0; row < rows; {
		block, err := back.Read(4096)
		if err != nil {
			t.Fatal(err)
		}
		for r := range block.Rows() {
			k := row % at
			if p, l := block.AppendCell(nil, r, 1), block.AppendCell(nil, r, 2); string(p) != strconv.Itoa(row) || string(l) != fmt.Sprintf("[%t,true,%t]", k&1 == 1, k>>1&1 == 1) {
				t.Fatalf("row %d has %s and %s", row, p, l)
			}
			row++
		}
	}
	g, err := parquet.OpenFile(f, onDisk{f.Name()}.Size())
	if err != nil || len(g.RowGroups()) != 2 || len(g.OffsetIndexes()) != 0 {
		t.Errorf("%d row groups, %v", len(g.RowGroups()), err)
	}
}
