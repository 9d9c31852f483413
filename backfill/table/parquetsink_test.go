package table_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

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
		columns := slices.DeleteFunc(slices.Clone(src.Columns()), func(c table.Column) bool { return c.Kind == table.Object && c.Name != "nothing" })
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
			if column.Name == "nothing" {
				column.Kind = table.Text // a column of no type becomes one of text
			}
			if now := back.Columns()[c]; now.Name != column.Name || now.Kind != column.Kind {
				t.Errorf("column %s (%s) has become %s (%s)", column.Name, column.Kind, now.Name, now.Kind)
			}
		}
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
