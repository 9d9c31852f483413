package table_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

func TestJSONL(t *testing.T) {
	text := "\xef\xbb\xbf" + `{"id":1,"x":[1,2.5,-3e1],"note":"é\"\\"}` + "\r\n\n  \n" +
		`[4, 5 ,6]` + "\n" + `{ "x" : [ [7,8,9] ] }` + "\n" + `{"\u0078":[10,11,12.0000000001]}`
	src := open(t, table.JSONL, text, table.Options{})
	want := []table.Column{{Name: "id", Kind: table.Integer, Length: -1}, {Name: "x", Kind: table.List, Length: 3}, {Name: "note", Kind: table.Text, Length: -1}, {Name: "input", Kind: table.List, Length: 3}}
	if got := src.Columns(); !reflect.DeepEqual(got, want) {
		t.Fatalf("the columns are %+v, want %+v", got, want)
	}
	block := read(t, src)
	d := block.Decode(plan(t, src, takes(x(job.FP32, 3)), table.Want{}))
	if len(d.Groups) != 1 || !reflect.DeepEqual(d.Groups[0].Rows, []int{0, 3}) {
		t.Fatalf("got %+v", d)
	}
	in := d.Groups[0].Inputs[0]
	if in.Name != "x" || !reflect.DeepEqual(in.Shape, []int64{2, 3}) || !bytes.Equal(in.Data, floats(1, 2.5, -30, 10, 11, 12)) {
		t.Errorf("got %+v", in)
	}
	// The array has no x, and the list in the list is of another shape.
	if len(d.Bad) != 2 || d.Bad[0].Row != 1 || d.Bad[1].Row != 2 || d.Bad[1].Err.Field != "x" {
		t.Errorf("bad rows are %+v", d.Bad)
	}
	for row, line := range []int64{1, 4, 5, 6} {
		if got := block.Line(row); got != line {
			t.Errorf("row %d is line %d, want %d", row, got, line)
		}
	}
	if got := string(block.AppendCell(nil, 0, 2)); got != `"é\"\\"` {
		t.Errorf("the note is %s", got)
	}
	if got := string(block.AppendCell(nil, 1, 3)); got != `[4, 5 ,6]` {
		t.Errorf("the array is %s", got)
	}
	if got := string(block.AppendCell(nil, 1, 0)); got != "null" {
		t.Errorf("the missing ID is %s", got)
	}
	if next := block.Next(); next.Row != 4 || next.Offset != int64(len(text)) {
		t.Errorf("the next row would be at %+v", next)
	}
	if _, err := src.Read(1); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func TestBadRowsOfJSONL(t *testing.T) {
	good := `{"x":[1,2],"n":1}`
	secret := strings.Repeat("s3cret", 20)
	for _, tt := range []struct{ line, field, detail string }{
		{`{"x":[1,2],"n":1`, "", "not JSON: the line ends at byte 16, within its data"},
		{`{"x":[1,2],"n":}`, "", `not JSON: byte 15 is '}'`},
		{`{"x":[1,2],"n":1}}`, "", `not JSON: byte 17 is '}'`},
		{`{"x":[1,2],"n":01}`, "", `not JSON: byte 15 is '0'`},
		{`{"x":[1,2] "n":1}`, "", `not JSON: byte 11 is '"'`},
		{`{"x":[1,2],"n":tru}`, "", `not JSON: byte 15 is 't'`},
		{`{"x":[1,2],"n":"` + "\xff" + `"}`, "", "not JSON: byte 16 is not UTF-8"},
		{`{"x":[1,2],"n":"` + "\x01" + `"}`, "", `not JSON: byte 16 is '\x01'`},
		{`{"x":[1,2],"n":"\q"}`, "", `not JSON: byte 16 is '\\'`},
		{`{"x":[1,2],"n":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "", "not JSON: byte 79 is '['"},
		{`hello`, "", `not JSON: byte 0 is 'h'`},
		{`"` + secret + `"`, "", "expected a JSON object or a JSON array"},
		{`7`, "", "expected a JSON object or a JSON array"},
		{`{"n":1}`, "x", "the row has no such member"},
		{`{"x":[1,2],"x":[1,2]}`, "x", "the row has this member twice"},
		{`{"x":[1,2,3]}`, "x", "expected 2 elements, got 3"},
		{`{"x":[1]}`, "x", "expected 2 elements, got 1"},
		{`{"x":[]}`, "x", "expected 2 elements, got 0"},
		{`{"x":[[1],[2]]}`, "x", "expected the shape [2], got [2,1]"},
		{`{"x":[1,"` + secret + `"]}`, "x", "element 1: expected a number, found a string"},
		{`{"x":[1,null]}`, "x", "element 1: expected a number, found null"},
		{`{"x":null}`, "x", "element 0: expected a number, found null"},
		{`{"x":[1,1e99]}`, "x", "element 1: 1e99 does not fit FP32"},
		{`{"x":[1,1` + strings.Repeat("0", 60) + `]}`, "x", "element 1: 10000000000000000... does not fit FP32"},
		{strings.Repeat(" ", 300) + good, "", "the row is longer than 256 bytes"},
	} {
		src := open(t, table.JSONL, good+"\n"+tt.line+"\n"+good+"\n", table.Options{MaxLine: 256})
		block := read(t, src)
		d := block.Decode(plan(t, src, takes(x(job.FP32, 2)), table.Want{}))
		if len(d.Groups) != 1 || !reflect.DeepEqual(d.Groups[0].Rows, []int{0, 2}) || !bytes.Equal(d.Groups[0].Inputs[0].Data, floats(1, 2, 1, 2)) {
			t.Errorf("%s: the neighbours suffer: %+v", tt.line, d.Groups)
		}
		if len(d.Bad) != 1 || d.Bad[0].Row != 1 || block.Line(1) != 2 || block.Line(2) != 3 {
			t.Errorf("%s: bad rows are %+v", tt.line, d.Bad)
		} else if err := d.Bad[0].Err; err.Field != tt.field || err.Detail != tt.detail {
			t.Errorf("%s:\ngot  %q %q\nwant %q %q", tt.line, err.Field, err.Detail, tt.field, tt.detail)
		}
	}
}

func TestInputsOfJSONL(t *testing.T) {
	info := takes(model.TensorSpec{Name: "a", Datatype: job.Bytes, Shape: []int64{2}}, model.TensorSpec{Name: "b", Datatype: job.Bool, Shape: []int64{1}},
		model.TensorSpec{Name: "c", Datatype: job.Int8, Shape: []int64{2}})
	src := open(t, table.JSONL, `{"c1":-128,"b":true,"c2":127,"a":["é","\u00e9"]}`+"\n"+`{"c1":1,"b":true,"c2":128,"a":["",""]}`+"\n"+
		`{"c1":1,"b":true,"c2":[5],"a":["a","\u0000"]}`+"\n", table.Options{})
	p := plan(t, src, info, table.Want{Inputs: map[string][]string{"c": {"c2", "c1"}}})
	d := read(t, src).Decode(p)
	if len(d.Groups) != 1 || len(d.Bad) != 2 {
		t.Fatalf("got %+v", d)
	}
	texts := job.AppendBytesElement(job.AppendBytesElement(nil, []byte("é")), []byte("é"))
	for i, want := range [][]byte{texts, {1}, {127, 128}} {
		if got := d.Groups[0].Inputs[i]; !bytes.Equal(got.Data, want) || got.Shape[0] != 1 {
			t.Errorf("%s is %v, want %v", got.Name, got.Data, want)
		}
	}
	if got := d.Bad[0].Err.Error(); got != "c2: element 0: 128 does not fit INT8" {
		t.Errorf("got %q", got)
	}
	if got := d.Bad[1].Err.Error(); got != "a: the text has a NUL byte, which the text of a model cannot have" {
		t.Errorf("got %q", got)
	}
}

// TestShapes groups rows whose shapes vary.
func TestShapes(t *testing.T) {
	src := open(t, table.JSONL, "[[1,2]]\n[[1,2],[3,4]]\n[5,6]\n[7]\n[[1,2],[3]]\n[[9,8],[7,6]]\n[]\n", table.Options{})
	d := read(t, src).Decode(plan(t, src, takes(x(job.FP32, -1, 2)), table.Want{}))
	var rows [][]int
	for _, g := range d.Groups {
		rows = append(rows, g.Rows)
		if err := g.Inputs[0].Check("x", job.DefaultLimits()); err != nil {
			t.Error(err)
		}
	}
	if !reflect.DeepEqual(rows, [][]int{{0, 2}, {1, 5}, {6}}) {
		t.Fatalf("the groups are %v", rows)
	}
	if got := d.Groups[1].Inputs[0]; !reflect.DeepEqual(got.Shape, []int64{2, 2, 2}) || !bytes.Equal(got.Data, floats(1, 2, 3, 4, 9, 8, 7, 6)) {
		t.Errorf("got %+v", got)
	}
	if len(d.Bad) != 2 || d.Bad[0].Row != 3 || d.Bad[1].Row != 4 {
		t.Errorf("bad rows are %+v", d.Bad)
	}
}

// TestDatatypes has each datatype read as job.ScanArray reads it, flat and nested.
func TestDatatypes(t *testing.T) {
	numbers := []string{
		"0", "-0", "1", "-1", "127", "255", "65504", "0.1", "16777217", "1e-45", "3.4028235e38", "5e-324", "1.7976931348623157e308",
		"9223372036854775807", "-9223372036854775808", "18446744073709551615", "1e400", "0.30000001192092896", "1.00000017881393432617187499", "1e22", "123456789.125",
	}
	for _, dt := range []job.Datatype{job.Uint8, job.Uint16, job.Uint32, job.Uint64, job.Int8, job.Int16, job.Int32, job.Int64, job.FP16, job.BF16, job.FP32, job.FP64} {
		for _, n := range numbers {
			list := fmt.Sprintf("[[%s , 1],[2, %s]]", n, n)
			_, want, wrong := job.ScanArray("x", []byte(list), dt, job.DefaultLimits())
			src := open(t, table.JSONL, `{"x":`+list+"}\n", table.Options{})
			d := read(t, src).Decode(plan(t, src, takes(x(dt, 2, 2)), table.Want{}))
			if wrong != nil {
				if len(d.Bad) != 1 || d.Bad[0].Err.Error() != wrong.Error() {
					t.Errorf("%s %s: got %+v, want %v", dt, n, d, wrong)
				}
				continue
			}
			if len(d.Groups) != 1 || !bytes.Equal(d.Groups[0].Inputs[0].Data, want) {
				t.Errorf("%s %s: got %+v, want %v", dt, n, d, want)
			}
		}
	}
}

func TestFirstRowsOfJSONL(t *testing.T) {
	var text strings.Builder
	for i := range 60 {
		fmt.Fprintf(&text, "{\"id\":%d,\"x\":[1,2],\"o\":{\"a\":[1]},\"u\":null,\"f\":%d.5}\n", i, i)
	}
	text.WriteString("not JSON\n" + `{"id":"a","x":[1,2,3],"o":1}` + "\n")
	src := open(t, table.JSONL, text.String(), table.Options{})
	want := cols("id:i", "x:l2", "o:o", "u:u", "f:n")
	if got := src.Columns(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if rows := read(t, src).Rows(); rows != 62 {
		t.Errorf("got %d rows after a look at the first, want all 62", rows)
	}
}

func TestFilesAtFault(t *testing.T) {
	rows := []byte(strings.Repeat("{\"x\":[1,2]}\n", 100_000))
	for _, tt := range []struct {
		name string
		f    table.Format
		c    table.Compression
		text []byte
		want string
	}{
		{"not JSON", table.JSONL, table.Plain, []byte("a,b\n1,2\n"), "none of the first 2 lines is a JSON object or a JSON array"},
		{"not gzip", table.JSONL, table.Gzip, rows, "this is not gzip"},
		{"not zstd", table.JSONL, table.Zstd, rows, "this is not zstd"},
		{"cut gzip", table.JSONL, table.Gzip, cutShort(pack(t, table.Gzip, rows)), "cut short"},
		{"cut zstd", table.JSONL, table.Zstd, cutShort(pack(t, table.Zstd, rows)), "cut short"},
		{"more than gzip", table.JSONL, table.Gzip, append(pack(t, table.Gzip, rows), "garbage garbage"...), "this is not gzip"},
		{"no header", table.CSV, table.Plain, []byte("1,2\n3,4\n"), "--no-header"},
		{"doubled name", table.CSV, table.Plain, []byte("a,b,a\n3,4,5\n"), "columns 1 and 3 are both named a"},
		{"broken header", table.CSV, table.Plain, []byte("a,b\"c\n3,4\n"), "line 1, the header: a quote"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, err := table.Open(file(t, tt.text), tt.f, tt.c, table.Options{})
			for err == nil {
				_, err = src.Read(1000)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
		})
	}
}

func cutShort(b []byte) []byte { return b[:len(b)-len(b)/3] }

func TestEmptyFiles(t *testing.T) {
	for _, f := range []table.Format{table.JSONL, table.CSV} {
		for _, c := range []table.Compression{table.Plain, table.Gzip, table.Zstd} {
			for _, text := range [][]byte{{}, pack(t, c, nil), pack(t, c, []byte("\n\n"))} {
				src, err := table.Open(file(t, text), f, c, table.Options{})
				if err != nil {
					t.Errorf("%s %s: %v", f, c, err)
					continue
				}
				if _, err := table.NewPlan(src.Columns(), digits(), table.Want{}); err != nil {
					t.Errorf("%s %s: %v", f, c, err)
				}
				if b, err := src.Read(5); !errors.Is(err, io.EOF) {
					t.Errorf("%s %s: got %v, %v", f, c, b, err)
				}
			}
		}
	}
}

func TestRowTooLargeForAJob(t *testing.T) {
	src := open(t, table.JSONL, "[1,2,3]\n[1,2]\n", table.Options{})
	p := plan(t, src, takes(x(job.FP32, -1)), table.Want{})
	p.Limits.MaxBytes = 8
	d := read(t, src).Decode(p)
	if len(d.Bad) != 1 || d.Bad[0].Row != 0 || d.Bad[0].Err.Code != job.CodeTooLarge {
		t.Errorf("got %+v", d)
	}
}
