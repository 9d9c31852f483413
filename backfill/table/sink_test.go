package table_test

import (
	"encoding/csv"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// written is what a sink makes of answers.
func written(t testing.TB, spec table.Spec, b table.Block, answers ...table.Answer) string {
	t.Helper()
	f := created(t)
	sink, err := table.NewSink(f, spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	piece, err := sink.Encode(b, answers)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Append(piece); err != nil {
		t.Fatal(err)
	}
	if err := sink.Finish(); err != nil {
		t.Fatal(err)
	}
	return string(content(t, f))
}

// outputs are of two rows.
func outputs() []job.Tensor {
	texts := job.AppendBytesElement(job.AppendBytesElement(nil, []byte("a,\"é\"")), []byte("b\xff"))
	return []job.Tensor{
		{Name: "p", Datatype: job.FP32, Shape: []int64{2, 2}, Data: floats(.1, 1e-7, math.NaN(), math.Inf(-1))},
		{Name: "label", Datatype: job.Bytes, Shape: []int64{2}, Data: texts},
		{Name: "half", Datatype: job.FP16, Shape: []int64{2, 1}, Data: []byte{0, 0x3c, 1, 0x7c}},
	}
}

func predicted(t job.Tensor, at int, name string) table.Predicted {
	return table.Predicted{Column: name, Output: at, Datatype: t.Datatype, Shape: t.Shape[1:]}
}

func allPredicted() []table.Predicted {
	o := outputs()
	return []table.Predicted{predicted(o[0], 0, "prediction"), predicted(o[1], 1, "label"), predicted(o[2], 2, "half")}
}

func both() []table.Answer {
	return []table.Answer{{Row: 0, Outputs: outputs(), At: 1}, {Row: 2, Outputs: outputs(), At: 0}}
}

func TestResults(t *testing.T) {
	lines := open(t, table.JSONL, `{"id":"a\"b","x":[1,2],"prediction":"old" }`+"\n{}\n[ 3,4 ]\n", table.Options{})
	rows := open(t, table.CSV, "id,x,prediction\n\"a\"\"b\",1,old\n2,2,2\n3,4,\n", table.Options{})
	jb, cb := read(t, lines), read(t, rows)
	for _, tt := range []struct {
		name string
		b    table.Block
		spec table.Spec
		want string
	}{
		{
			"lines", jb,
			table.Spec{Format: table.JSONL, Columns: lines.Columns(), ID: 0},
			`{"sheaf_row":1,"id":"a\"b","prediction":[null,null],"label":"b�","half":[null]}` + "\n" +
				`{"sheaf_row":3,"id":null,"prediction":[0.1,1e-07],"label":"a,\"é\"","half":[1]}` + "\n",
		},
		{
			"lines joined", jb,
			table.Spec{Format: table.JSONL, Columns: lines.Columns(), ID: -1, Join: true},
			`{"id":"a\"b","x":[1,2],"prediction":[null,null],"label":"b�","half":[null]}` + "\n" +
				`{"input":[ 3,4 ],"prediction":[0.1,1e-07],"label":"a,\"é\"","half":[1]}` + "\n",
		},
		{
			"CSV", cb,
			table.Spec{Format: table.CSV, Columns: rows.Columns(), ID: 0},
			"sheaf_row,id,prediction_0,prediction_1,label,half\n" +
				"1,\"a\"\"b\",NaN,-Inf,b\xff,NaN\n" + "3,3,0.1,1e-07,\"a,\"\"é\"\"\",1\n",
		},
		{
			"CSV joined", cb,
			table.Spec{Format: table.CSV, Columns: rows.Columns(), ID: -1, Join: true},
			"id,x,prediction,prediction_0,prediction_1,label,half\n" +
				"\"a\"\"b\",1,old,NaN,-Inf,b\xff,NaN\n" + "3,4,,0.1,1e-07,\"a,\"\"é\"\"\",1\n",
		},
		{
			"lines as CSV", jb,
			table.Spec{Format: table.CSV, Columns: lines.Columns(), ID: 0, Join: true},
			"id,x,prediction,input,prediction_0,prediction_1,label,half\n" +
				"\"a\"\"b\",\"[1,2]\",old,,NaN,-Inf,b\xff,NaN\n" + ",,,\"[ 3,4 ]\",0.1,1e-07,\"a,\"\"é\"\"\",1\n",
		},
		{
			"CSV as lines", cb,
			table.Spec{Format: table.JSONL, Columns: rows.Columns(), ID: 0, Join: true},
			`{"id":"a\"b","x":1,"prediction":[null,null],"label":"b�","half":[null]}` + "\n" +
				`{"id":3,"x":4,"prediction":[0.1,1e-07],"label":"a,\"é\"","half":[1]}` + "\n",
		},
		{
			"CSV as TSV", cb,
			table.Spec{Format: table.TSV, Columns: rows.Columns(), ID: -1, Join: true},
			"id\tx\tprediction\tprediction_0\tprediction_1\tlabel\thalf\n" +
				"\"a\"\"b\"\t1\told\tNaN\t-Inf\tb\xff\tNaN\n" + "3\t4\t\t0.1\t1e-07\t\"a,\"\"é\"\"\"\t1\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.spec.Predicted = allPredicted()
			got := written(t, tt.spec, tt.b, both()...)
			if got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
			if tt.spec.Format == table.JSONL {
				valid(t, []byte(got))
			}
		})
	}
}

func TestPredictionsOfOtherShapes(t *testing.T) {
	src := open(t, table.JSONL, "{\"id\":1}\n{\"id\":2}\n", table.Options{})
	b := read(t, src)
	for _, tt := range []struct {
		output    job.Tensor
		shape     []int64
		at        int
		lines, as string
	}{
		{job.Tensor{Datatype: job.Int8, Shape: []int64{2, 1, 2}, Data: []byte{1, 2, 3, 255}}, []int64{1, 2}, 1, `[[3,-1]]`, "sheaf_row,p_0,p_1\n1,3,-1\n"},
		{job.Tensor{Datatype: job.Int8, Shape: []int64{1, 3}, Data: []byte{1, 2, 3}}, []int64{-1}, 0, `[1,2,3]`, "sheaf_row,p\n1,\"[1,2,3]\"\n"},
		{job.Tensor{Datatype: job.Bool, Shape: []int64{2}, Data: []byte{1, 0}}, []int64{}, 1, `false`, "sheaf_row,p\n1,false\n"},
		{job.Tensor{Datatype: job.FP64, Shape: []int64{1}, Data: []byte{0, 0, 0, 0, 0, 0, 0x59, 0x40}}, []int64{1}, 0, `[100]`, "sheaf_row,p\n1,100\n"}, // a model without batches
	} {
		spec := table.Spec{Format: table.JSONL, Columns: src.Columns(), ID: -1, Predicted: []table.Predicted{{Column: "p", Datatype: tt.output.Datatype, Shape: tt.shape}}}
		answer := table.Answer{Outputs: []job.Tensor{tt.output}, At: tt.at}
		if got := written(t, spec, b, answer); got != `{"sheaf_row":1,"p":`+tt.lines+"}\n" {
			t.Errorf("got %s want %s", got, tt.lines)
		}
		spec.Format = table.CSV
		if got := written(t, spec, b, answer); got != tt.as {
			t.Errorf("got %s want %s", got, tt.as)
		}
	}
}

func TestErrorsOfLines(t *testing.T) {
	text := `{"x":[1,2,3],"id":1}` + "\n[1,2,3]\nnot JSON é\xff\n{}\n" + `{"x":[9],"sheaf_error":"old","sheaf_line":[7],"id":2}` + "\n"
	src := open(t, table.JSONL, text, table.Options{})
	b := read(t, src)
	spec := table.Spec{Format: table.JSONL, Errors: true, Columns: src.Columns(), ID: -1}
	d := b.Decode(plan(t, src, takes(x(job.FP32, 2)), table.Want{}))
	var answers []table.Answer
	for _, bad := range d.Bad {
		answers = append(answers, table.Answer{Row: bad.Row, Err: bad.Err})
	}
	got := written(t, spec, b, answers...)
	want := `{"x":[1,2,3],"id":1,"sheaf_line":1,"sheaf_error":"x: expected 2 elements, got 3"}
{"input":[1,2,3],"sheaf_line":2,"sheaf_error":"x: the row has no such member"}
{"sheaf_raw":"not JSON é�","sheaf_line":3,"sheaf_error":"not JSON: byte 0 is 'n'"}
{"sheaf_line":4,"sheaf_error":"x: the row has no such member"}
{"x":[9],"id":2,"sheaf_line":5,"sheaf_error":"x: expected 2 elements, got 1"}
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	// A file of errors is a table of the same rows, and ours are no columns for a model.
	again := open(t, table.JSONL, strings.ReplaceAll(got, "[1,2,3]", "[1,2]"), table.Options{})
	d = read(t, again).Decode(plan(t, again, takes(x(job.FP32, 2)), table.Want{}))
	if len(d.Groups) != 1 || !reflect.DeepEqual(d.Groups[0].Rows, []int{0}) {
		t.Errorf("submitted again: %+v", d)
	}
}

func TestErrorsOfCSV(t *testing.T) {
	text := "a,b,note,sheaf_error\n1,x,\"two\nlines\",old\n1,2\n1,2,3,4,5,6\n1,2\"3,4,5\n\"1,2,3,4\n"
	src := open(t, table.CSV, text, table.Options{})
	b := read(t, src)
	d := b.Decode(plan(t, src, takes(x(job.FP32, 2)), table.Want{Inputs: map[string][]string{"x": {"a", "b"}}}))
	var answers []table.Answer
	for _, bad := range d.Bad {
		answers = append(answers, table.Answer{Row: bad.Row, Err: bad.Err})
	}
	spec := table.Spec{Format: table.CSV, Errors: true, Columns: src.Columns(), ID: -1}
	rows, err := csv.NewReader(strings.NewReader(written(t, spec, b, answers...))).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"a", "b", "note", "sheaf_line", "sheaf_error"},
		{"1", "x", "two\nlines", "2", `b: expected a number that fits FP32, got "x"`},
		{"1", "2", "", "4", "expected 4 fields as there are columns, got 2"},
		{"1", "2", "3", "5", "expected 4 fields as there are columns, got 6"},
		{"1", `2"3`, "4", "6", "a quote stands within a field that does not begin with one"},
		{"1,2,3,4", "", "", "7", "a quote is opened and not closed, in all that follows or in 33554432 bytes"},
	}
	if !reflect.DeepEqual(rows, want) {
		t.Errorf("got\n%q\nwant\n%q", rows, want)
	}
	spec = table.Spec{Format: table.JSONL, Errors: true, Columns: src.Columns(), ID: -1}
	lines := valid(t, []byte(written(t, spec, b, answers[:2]...)))
	if lines[0]["note"] != "two\nlines" || lines[0]["sheaf_line"] != 2.0 || lines[1]["sheaf_raw"] != "1,2" {
		t.Errorf("as lines: %v", lines)
	}
}

func TestTooManyFieldsStandInTheLast(t *testing.T) {
	src := open(t, table.CSV, "a,b\n1,\"x,y\",3\n1,2\n", table.Options{})
	spec := table.Spec{Format: table.CSV, Errors: true, Columns: src.Columns(), ID: -1}
	got := written(t, spec, read(t, src), table.Answer{Row: 0, Err: job.Invalidf("", "why")})
	if want := "a,b,sheaf_line,sheaf_error\n1,\"x,y,3\",2,why\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestSpecsAtFault(t *testing.T) {
	columns := cols("id:i", "prediction:l")
	for _, spec := range []table.Spec{
		{Format: table.JSONL, Columns: columns, ID: 1, Predicted: []table.Predicted{{Column: "prediction"}}},
		{Format: table.CSV, Columns: columns, ID: 1, Predicted: []table.Predicted{{Column: "prediction"}}},
		{Format: table.CSV, Columns: columns, ID: -1, Predicted: []table.Predicted{{Column: "sheaf_row"}}},
		{Format: table.Parquet, Compression: table.Gzip, ID: -1},
		{},
	} {
		if _, err := table.NewSink(created(t), spec, nil); err == nil {
			t.Errorf("%+v was taken", spec)
		}
	}
	src := open(t, table.JSONL, "{\"id\":1}\n", table.Options{})
	b := read(t, src)
	for _, outputs := range [][]job.Tensor{
		nil,
		{{Datatype: job.FP32, Shape: []int64{1, 2}, Data: floats(1, 2)}},
		{{Datatype: job.FP32, Shape: []int64{0, 3}}},
		{{Datatype: job.FP32, Shape: []int64{3}}},
	} {
		spec := table.Spec{Format: table.CSV, Columns: src.Columns(), ID: -1, Predicted: []table.Predicted{{Column: "p", Shape: []int64{3}}}}
		sink, err := table.NewSink(created(t), spec, nil)
		if err != nil {
			t.Fatal(err)
		}
		if p, err := sink.Encode(b, []table.Answer{{Outputs: outputs}}); err == nil {
			t.Errorf("%v became %v", outputs, p)
		}
	}
}
