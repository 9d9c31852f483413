package table_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
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

// writtenParquet is what a sink makes of answers, read again: its columns, and its rows as lines.
func writtenParquet(t testing.TB, spec table.Spec, b table.Block, answers ...table.Answer) (table.Source, []string) {
	t.Helper()
	f := created(t)
	sink, err := table.NewSink(f, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) > 0 {
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
	return openParquet(t, onFile(t, f.Name()), 0), lines(t, openParquet(t, onFile(t, f.Name()), 0), 0, 1000)
}

func sameLines(t testing.TB, got []string, want ...string) {
	t.Helper()
	for i := range want {
		want[i] = canonical(t, []byte(want[i]))
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParquetResults(t *testing.T) {
	ofLines := open(t, table.JSONL, `{"id":"a\"b","x":[1,2],"n":1,"f":1.5,"b":true}`+"\n{}\n"+`{"id":"c","x":[3,4],"n":null,"f":2,"b":false}`+"\n", table.Options{})
	ofRows := open(t, table.CSV, "id,n,prediction\n\"a\"\"b\",1,old\n2,2,2\nc,,\n", table.Options{})
	jb, cb := read(t, ofLines), read(t, ofRows)
	// Of a row with one element the bare value is written, of others a list.
	const first, second = `"prediction":[null,null],"label":"b\ufffd","half":null`, `"prediction":[0.1,1e-7],"label":"a,\"é\"","half":1`
	for _, tt := range []struct {
		name string
		b    table.Block
		spec table.Spec
		want []string
	}{
		{"lines", jb, table.Spec{Columns: ofLines.Columns(), ID: 0}, []string{`{"sheaf_row":1,"id":"a\"b",` + first + `}`, `{"sheaf_row":3,"id":"c",` + second + `}`}},
		{"no ID", jb, table.Spec{Columns: ofLines.Columns(), ID: -1}, []string{`{"sheaf_row":1,` + first + `}`, `{"sheaf_row":3,` + second + `}`}},
		{"joined", jb, table.Spec{Columns: ofLines.Columns(), ID: -1, Join: true}, []string{
			`{"id":"a\"b","x":"[1,2]","n":1,"f":1.5,"b":true,` + first + `}`, `{"id":"c","x":"[3,4]","n":null,"f":2,"b":false,` + second + `}`,
		}},
		{"CSV joined", cb, table.Spec{Columns: ofRows.Columns(), ID: -1, Join: true}, []string{`{"id":"a\"b","n":1,` + first + `}`, `{"id":"c","n":null,` + second + `}`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.Format, tt.spec.Predicted = table.Parquet, allPredicted()
			_, got := writtenParquet(t, tt.spec, tt.b, both()...)
			sameLines(t, got, tt.want...)
		})
	}
}

// TestParquetJoin copies every column that pyarrow wrote, and each cell is the same after it.
func TestParquetJoin(t *testing.T) {
	for _, name := range []string{"testdata/arrow1.parquet", "testdata/arrow2.parquet"} {
		src := openParquet(t, onFile(t, name), 0)
		b := read(t, src)
		columns := slices.DeleteFunc(slices.Clone(src.Columns()), func(c table.Column) bool { return c.Kind == table.Object })
		if src.Columns()[len(columns)].Kind != table.Object {
			t.Fatal("columns of a nested type are expected at the end")
		}
		output := job.Tensor{Datatype: job.FP32, Shape: []int64{1, 2}, Data: floats(1, 2)}
		spec := table.Spec{Format: table.Parquet, Columns: src.Columns(), ID: -1, Join: true, Predicted: []table.Predicted{predicted(output, 0, "prediction")}}
		if _, err := table.NewSink(created(t), spec, nil); err == nil || !strings.Contains(err.Error(), "column pair is of a nested") {
			t.Errorf("got %v", err)
		}
		spec.Columns = columns
		var answers []table.Answer
		var want []string
		for row := range b.Rows() {
			answers = append(answers, table.Answer{Row: row, Outputs: []job.Tensor{output}})
			text := line(b, columns, row)
			want = append(want, string(text[:len(text)-1])+`,"prediction":[1,2]}`)
		}
		back, got := writtenParquet(t, spec, b, answers...)
		sameLines(t, got, want...)
		checkNulls(t, rewritten(t, spec, b, answers))
		for c, column := range columns {
			if now := back.Columns()[c]; now.Name != column.Name || now.Kind != column.Kind {
				t.Errorf("column %s (%s) has become %s (%s)", column.Name, column.Kind, now.Name, now.Kind)
			}
		}
	}
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

// TestParquetErrors writes bad rows, and reads and maps them as the rows that they were.
func TestParquetErrors(t *testing.T) {
	src := openParquet(t, onFile(t, "testdata/arrow1.parquet"), 4)
	b := read(t, src)
	spec := table.Spec{Format: table.Parquet, Errors: true, Columns: src.Columns(), ID: -1}
	back, got := writtenParquet(t, spec, b, table.Answer{Row: 1, Err: job.Invalidf("list", "no good")}, table.Answer{Row: 3, Err: job.Errorf(job.CodeTooLarge, "", "too large")})
	if len(got) != 2 || !strings.Contains(got[0], `"sheaf_line":6`) || !strings.Contains(got[0], "no good") || !strings.Contains(got[1], `"sheaf_line":8`) {
		t.Errorf("got %s", got)
	}
	p := plan(t, back, takes(x(job.FP32, 3)), table.Want{Inputs: map[string][]string{"x": {"floats"}}})
	again := read(t, back)
	d := again.Decode(p)
	if len(d.Bad) > 0 || len(d.Groups) != 1 || string(d.Groups[0].Inputs[0].Data) != string(floats(5, 2.5, .25, 7, 3.5, .25)) {
		t.Errorf("got %+v", d)
	}
	// A file of errors of a file of errors has the columns once.
	third, got := writtenParquet(t, table.Spec{Format: table.Parquet, Errors: true, Columns: back.Columns(), ID: -1}, again, table.Answer{Row: 1, Err: job.Invalidf("list", "worse")})
	if len(third.Columns()) != len(back.Columns()) || !strings.Contains(got[0], "worse") || !strings.Contains(got[0], `"sheaf_line":2`) {
		t.Errorf("got %s", got)
	}
	if _, err := table.NewPlan(third.Columns(), takes(x(job.FP32, 3)), table.Want{InputColumn: "floats"}); err != nil {
		t.Error(err)
	}
}

func TestParquetPredictions(t *testing.T) {
	b := read(t, open(t, table.CSV, "a\n1\n2\n", table.Options{}))
	u16 := func(v ...uint16) (data []byte) {
		for _, v := range v {
			data = binary.LittleEndian.AppendUint16(data, v)
		}
		return data
	}
	u32 := func(v ...uint32) (data []byte) {
		for _, v := range v {
			data = binary.LittleEndian.AppendUint32(data, v)
		}
		return data
	}
	u64 := func(v ...uint64) (data []byte) {
		for _, v := range v {
			data = binary.LittleEndian.AppendUint64(data, v)
		}
		return data
	}
	texts := job.AppendBytesElement(job.AppendBytesElement(nil, []byte("é")), nil)
	for _, tt := range []struct {
		dt   job.Datatype
		data []byte // of two elements
		want string
	}{
		{job.Bool, []byte{1, 0}, "true,false"},
		{job.Int8, []byte{0x80, 0x7f}, "-128,127"},
		{job.Uint8, []byte{0x80, 0xff}, "128,255"},
		{job.Int16, u16(0x8000, 0x7fff), "-32768,32767"},
		{job.Uint16, u16(0x8000, 0xffff), "32768,65535"},
		{job.Int32, u32(1<<31, 1<<31-1), "-2147483648,2147483647"},
		{job.Uint32, u32(1<<31, 1<<32-1), "2147483648,4294967295"},
		{job.Int64, u64(1<<63, 1<<63-1), "-9223372036854775808,9223372036854775807"},
		{job.Uint64, u64(1<<63, 1<<64-1), "9223372036854775808,18446744073709551615"},
		{job.FP16, u16(0x3c00, 0x7bff), "1,65504"},
		{job.BF16, u16(0x3f80, 0xff80), "1,null"},
		{job.FP32, floats(.1, 1e30), "0.1,1e30"},
		{job.FP64, u64(math.Float64bits(.1), math.Float64bits(math.NaN())), "0.1,null"},
		{job.Bytes, texts, `"é",""`},
	} {
		t.Run(tt.dt.String(), func(t *testing.T) {
			lists := job.Tensor{Name: "t", Datatype: tt.dt, Shape: []int64{1, 2}, Data: tt.data}
			bare := job.Tensor{Name: "t", Datatype: tt.dt, Shape: []int64{2, 1}, Data: tt.data}
			single := job.Tensor{Name: "t", Datatype: tt.dt, Shape: []int64{2}, Data: tt.data} // of a model that takes no batches
			none := job.Tensor{Name: "t", Datatype: tt.dt, Shape: []int64{1, 0}}
			spec := table.Spec{Format: table.Parquet, ID: -1, Predicted: []table.Predicted{
				{Column: "list", Datatype: tt.dt, Shape: []int64{2}},
				{Column: "bare", Output: 1, Datatype: tt.dt, Shape: []int64{1}},
				{Column: "single", Output: 2, Datatype: tt.dt, Shape: []int64{2}},
				{Column: "none", Output: 3, Datatype: tt.dt, Shape: []int64{-1}},
			}}
			_, got := writtenParquet(t, spec, b, table.Answer{Row: 1, Outputs: []job.Tensor{lists, bare, single, none}})
			first, _, _ := strings.Cut(tt.want, ",")
			sameLines(t, got, `{"sheaf_row":2,"list":[`+tt.want+`],"bare":`+first+`,"single":[`+tt.want+`],"none":[]}`)
		})
	}
}

func TestParquetSinkRefuses(t *testing.T) {
	src := open(t, table.CSV, "a\n1\n2\n", table.Options{})
	b := read(t, src)
	p := []table.Predicted{{Column: "p", Datatype: job.FP32, Shape: []int64{2}}}
	spec := table.Spec{Format: table.Parquet, Columns: src.Columns(), ID: -1, Predicted: p}
	sink, err := table.NewSink(created(t), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, out := range map[string]job.Tensor{
		"few rows":          {Datatype: job.FP32, Shape: []int64{1, 2}, Data: floats(1, 2)},
		"another datatype":  {Datatype: job.FP64, Shape: []int64{2, 2}, Data: make([]byte, 32)},
		"another shape":     {Datatype: job.FP32, Shape: []int64{2, 2, 2}, Data: make([]byte, 32)},
		"another row":       {Datatype: job.FP32, Shape: []int64{2, 3}, Data: make([]byte, 24)},
		"data of no length": {Datatype: job.FP32, Shape: []int64{2, 2}, Data: make([]byte, 15)},
	} {
		if _, err := sink.Encode(b, []table.Answer{{Row: 0, Outputs: []job.Tensor{out}, At: 1}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := sink.Append("no piece"); err == nil {
		t.Error("a piece of another sink is taken")
	}
	spec.Join = true
	if sink, err = table.NewSink(created(t), spec, nil); err != nil {
		t.Fatal(err)
	}
	other := read(t, open(t, table.CSV, "a\nx\n", table.Options{}))
	out := job.Tensor{Datatype: job.FP32, Shape: []int64{1, 2}, Data: floats(1, 2)}
	if _, err := sink.Encode(other, []table.Answer{{Outputs: []job.Tensor{out}}}); err == nil || !strings.Contains(err.Error(), "row 1, column a") {
		t.Errorf("got %v", err)
	}
	for _, mark := range []table.Mark{{Offset: 5}, {Offset: 50, Segments: []int64{50}}, {Offset: 20, Segments: []int64{30, 20}}, {Offset: 4, Segments: []int64{4}}} {
		f := created(t)
		if _, err := f.WriteString(strings.Repeat("PAR1", 20)); err != nil {
			t.Fatal(err)
		}
		if _, err := table.NewSink(f, spec, &mark); err == nil {
			t.Errorf("a file that has not what the mark %+v says is gone on with", mark)
		}
		if size := len(content(t, f)); size != 80 {
			t.Errorf("the file was cut to %d bytes all the same", size)
		}
	}
}

// TestParquetWithoutRows has a schema all the same.
func TestParquetWithoutRows(t *testing.T) {
	src := open(t, table.CSV, "a,b\n1,x\n", table.Options{})
	spec := table.Spec{Format: table.Parquet, Columns: src.Columns(), ID: -1, Join: true, Predicted: allPredicted()}
	back, got := writtenParquet(t, spec, nil)
	if len(got) != 0 || len(back.Columns()) != 5 || back.Rows() != 0 {
		t.Errorf("got %v and %v", got, back.Columns())
	}
	if read, size := back.Consumed(); read != size {
		t.Errorf("%d bytes of %d are read at the end", read, size)
	}
	if _, err := back.Read(1); !errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
}

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
