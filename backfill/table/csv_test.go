package table_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

func TestCSV(t *testing.T) {
	text := "\xef\xbb\xbfid,a,\"b\nb\",note\r\n" +
		"007,1.5,-2,\"say \"\"hi\"\"\r\nthere\"\r\n" + // lines 3 and 4
		"\n" +
		"8,NaN, +.5 ,\n" + // 6
		"9,,1,x\n" + // an empty cell
		"10,1,2\n" + // too few
		"11,1,2,3,4\n" + // too many
		"12,1,zwei,x\n" +
		"13,1,\"2\"3,x\n" + // 11
		"14,1,2,x\"y\n" +
		"15,\"1,2,x\n" + // opened, never closed
		"16,3,0x10,x\n" +
		"17,3,4,x\r"
	src := open(t, table.CSV, text, table.Options{})
	want := []table.Column{{Name: "id", Kind: table.Integer, Length: -1}, {Name: "a", Kind: table.Number, Length: -1}, {Name: "b\nb", Kind: table.Number, Length: -1}, {Name: "note", Kind: table.Text, Length: -1}}
	if got := src.Columns(); !reflect.DeepEqual(got, want) {
		t.Fatalf("the columns are %+v, want %+v", got, want)
	}
	block := read(t, src)
	d := block.Decode(plan(t, src, takes(x(job.FP32, 2)), table.Want{ID: "id"}))
	if len(d.Groups) != 1 || !reflect.DeepEqual(d.Groups[0].Rows, []int{0, 1, 10}) {
		t.Fatalf("got %+v", d)
	}
	nan := floats(0)
	copy(nan, []byte{0, 0, 0xc0, 0x7f})
	if got, want := d.Groups[0].Inputs[0].Data, append(append(floats(1.5, -2), nan...), floats(.5, 3, 4)...); !bytes.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for i, want := range []struct {
		line int64
		err  string
	}{
		{7, "a: expected a number that fits FP32, the cell is empty"},
		{8, "expected 4 fields as there are columns, got 3"},
		{9, "expected 4 fields as there are columns, got 5"},
		{10, `b` + "\n" + `b: expected a number that fits FP32, got "zwei"`},
		{11, "something follows the closing quote of a field"},
		{12, "a quote stands within a field that does not begin with one"},
		{13, "a quote is opened and not closed, in all that follows or in 33554432 bytes"},
		{14, "b\nb: expected a number that fits FP32, got \"0x10\""},
	} {
		bad := d.Bad[i]
		if got := block.Line(bad.Row); got != want.line || bad.Err.Error() != want.err {
			t.Errorf("bad row %d: line %d, %q; want line %d, %q", i, got, bad.Err, want.line, want.err)
		}
	}
	for _, tt := range []struct {
		row, column int
		want        string
	}{{0, 0, `"007"`}, {1, 0, "8"}, {0, 3, `"say \"hi\"\nthere"`}, {1, 1, `"NaN"`}, {2, 1, "null"}, {3, 3, "null"}, {10, 3, `"x"`}} {
		if got := string(block.AppendCell(nil, tt.row, tt.column)); got != tt.want {
			t.Errorf("cell %d, %d is %s, want %s", tt.row, tt.column, got, tt.want)
		}
	}
}

func TestCellsOfCSV(t *testing.T) {
	for _, tt := range []struct {
		dt   job.Datatype
		text string
		want []byte // nil: refused
	}{
		{job.Bool, "TRUE", []byte{1}},
		{job.Bool, "0", []byte{0}},
		{job.Bool, "yes", nil},
		{job.Int8, "-128", []byte{128}},
		{job.Int8, " +7 ", []byte{7}},
		{job.Int8, "128", nil},
		{job.Int8, "1.0", nil},
		{job.Int16, "-007", []byte{0xf9, 0xff}},
		{job.Uint8, "-1", nil},
		{job.Uint64, "18446744073709551615", bytes.Repeat([]byte{255}, 8)},
		{job.Uint64, "18446744073709551616", nil},
		{job.FP16, "1.", []byte{0, 0x3c}},
		{job.FP16, "-inf", []byte{0, 0xfc}},
		{job.FP16, "nan", []byte{0, 0x7e}},
		{job.FP16, "1e9", nil},
		{job.BF16, "nan", []byte{0xc0, 0x7f}},
		{job.BF16, "Infinity", []byte{0x80, 0x7f}},
		{job.FP32, "1e99", nil},
		{job.FP32, "1_000", nil},
		{job.FP32, "", nil},
		{job.FP64, "1e2", []byte{0, 0, 0, 0, 0, 0, 0x59, 0x40}},
		{job.Bytes, "é", []byte{2, 0, 0, 0, 0xc3, 0xa9}},
		{job.Bytes, "", []byte{0, 0, 0, 0}},
		{job.Bytes, "\xff", nil},
		{job.Bytes, "a\x00", nil},
	} {
		src := open(t, table.CSV, "x,other\n"+tt.text+",1\n", table.Options{})
		d := read(t, src).Decode(plan(t, src, takes(x(tt.dt, 1)), table.Want{Inputs: map[string][]string{"x": {"x"}}}))
		switch {
		case tt.want == nil && len(d.Bad) != 1:
			t.Errorf("%s %q was taken: %+v", tt.dt, tt.text, d)
		case tt.want == nil && d.Bad[0].Err.Field != "x":
			t.Errorf("%s %q: the error names no column: %v", tt.dt, tt.text, d.Bad[0].Err)
		case tt.want != nil && (len(d.Groups) != 1 || !bytes.Equal(d.Groups[0].Inputs[0].Data, tt.want)):
			t.Errorf("%s %q: got %+v, want %v", tt.dt, tt.text, d, tt.want)
		}
	}
}

func TestListsInCSV(t *testing.T) {
	src := open(t, table.TSV, "id\tv\n1\t[1,2]\n2\t\n3\t[3]\n4\t[[4,5]]\n", table.Options{})
	if want := cols("id:i", "v:l"); !reflect.DeepEqual(src.Columns(), want) {
		t.Fatalf("got %+v", src.Columns())
	}
	d := read(t, src).Decode(plan(t, src, takes(x(job.FP32, 2)), table.Want{}))
	if len(d.Groups) != 1 || !bytes.Equal(d.Groups[0].Inputs[0].Data, floats(1, 2)) || len(d.Bad) != 3 {
		t.Errorf("got %+v", d)
	}
}

func TestCSVWithoutHeader(t *testing.T) {
	src := open(t, table.CSV, "1;2\n3;4\n", table.Options{NoHeader: true, Delimiter: ';'})
	if want := cols("c0:i", "c1:i"); !reflect.DeepEqual(src.Columns(), want) {
		t.Fatalf("got %+v", src.Columns())
	}
	d := read(t, src).Decode(plan(t, src, takes(x(job.FP32, 2)), table.Want{}))
	if len(d.Groups) != 1 || !bytes.Equal(d.Groups[0].Inputs[0].Data, floats(1, 2, 3, 4)) {
		t.Errorf("got %+v", d)
	}
	if _, err := table.Open(file(t, nil), table.CSV, table.Plain, table.Options{Delimiter: '"'}); err == nil {
		t.Error("a quote was taken for a delimiter")
	}
}
