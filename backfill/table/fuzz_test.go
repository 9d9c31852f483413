package table_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
)

// FuzzJSONLine holds the scanner of lines to encoding/json: what is JSON, and what is in its members.
func FuzzJSONLine(f *testing.F) {
	for _, line := range []string{
		`{"x":[1,2.5,-3e1],"id":1}`, `[1,2]`, `{"x":[[1],[2]],"b":{"c":[true,false,null,"\u00e9\ud83d\ude00"]}}`, `{ "\u0078" : [ 0.1 , 1e-7 ] }`,
		`{"x":[01,2]}`, `{"x":[1,2],}`, `{"x":[1 2]}`, `{"x":[1,2]}}`, `{"x":["1",2]}`, `{"x":[16777217,1e39]}`, `{"x":[-0,-]}`, `{"a":"\"`, `{"":[]}`, `{"x":[1.,2]}`,
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.IndexByte(line, '\n') >= 0 || len(line) > 1000 || bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) {
			return
		}
		text := "{\"x\":[1,2]}\n" + string(line) + "\n{\"x\":[3,4]}\n"
		src, err := table.Open(memory{[]byte(text)}, table.JSONL, table.Plain, table.Options{})
		if err != nil {
			t.Fatal(err)
		}
		block := read(t, src)
		if len(bytes.Trim(line, " \t\r")) == 0 {
			if block.Rows() != 2 {
				t.Fatalf("a blank line is a row")
			}
			return
		}
		p := plan(t, src, takes(x(job.FP32, 2)), table.Want{Inputs: map[string][]string{"x": {"x"}}})
		d := block.Decode(p)
		bad := len(d.Bad) == 1 && d.Bad[0].Row == 1
		if !bad && (len(d.Bad) > 0 || len(d.Groups[0].Rows) != 3) || bad && (len(d.Groups) != 1 || len(d.Groups[0].Rows) != 2) {
			t.Fatalf("got %+v", d)
		}
		trimmed := bytes.Trim(line, " \t\r")
		isJSON := json.Valid(line) && utf8.Valid(line)
		if bad && len(d.Bad[0].Err.Detail) > 200 {
			t.Errorf("a long reason: %q", d.Bad[0].Err.Detail)
		}
		malformed := bad && d.Bad[0].Err.Code == job.CodeMalformed
		deep := bytes.Count(line, []byte("["))+bytes.Count(line, []byte("{")) > 60 // we bound it, encoding/json does not
		if malformed == isJSON && !deep {
			t.Fatalf("JSON: %v, malformed: %v, %+v", isJSON, malformed, d.Bad)
		}
		var out buffer
		sink, err := table.NewSink(&out, table.Spec{Format: table.JSONL, Errors: true, Columns: src.Columns(), ID: -1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		piece, err := sink.Encode(block, []table.Answer{{Row: 1}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(sink.Append(piece), sink.Finish()); err != nil {
			t.Fatal(err)
		}
		if got := out.Bytes(); !json.Valid(got) || bytes.Count(got, []byte("\n")) != 1 {
			t.Fatalf("the file of errors has %q", got)
		}
		var object map[string]json.RawMessage
		if !isJSON || trimmed[0] != '{' || json.Unmarshal(line, &object) != nil {
			return
		}
		for c, column := range src.Columns() {
			if cell := block.AppendCell(nil, 1, c); !json.Valid(cell) {
				t.Fatalf("cell %s is %q", column.Name, cell)
			}
		}
		var want [2]float32
		if !bad {
			if err := json.Unmarshal(object["x"], &want); err == nil && !bytes.Equal(d.Groups[0].Inputs[0].Data[8:16], floats(float64(want[0]), float64(want[1]))) {
				t.Fatalf("got %v, want %v", d.Groups[0].Inputs[0].Data, want)
			}
		}
	})
}

// FuzzCSV holds the reader of CSV to encoding/csv, but for a quote that is never closed: there encoding/csv takes all the
// rest for one bad record.
func FuzzCSV(f *testing.F) {
	for _, text := range []string{
		"1,2\n3,4\n", "\"a\nb\",\"c\"\"d\"\r\n1,2", "\"a\"b,c\n1,2\n", "a\"b,c\n1\n", ",,\n\n\n,\n", "\"\r\n\",\r\n", "\"a\"\r", "\"a\"\rb\n", "a\r\nb\r", "\"\"\n\" \"\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 2000 || strings.HasPrefix(text, "\xef\xbb\xbf") {
			return
		}
		r := csv.NewReader(strings.NewReader(text))
		r.FieldsPerRecord = -1
		var want [][]string
		for {
			fields, err := r.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				if parse := new(csv.ParseError); errors.As(err, &parse) && errors.Is(err, csv.ErrQuote) && r.InputOffset() == int64(len(text)) {
					return
				}
				fields = nil
			}
			want = append(want, fields)
		}
		src, err := table.Open(memory{[]byte(text)}, table.CSV, table.Plain, table.Options{NoHeader: true})
		if err != nil {
			t.Fatal(err)
		}
		block, err := src.Read(1 << 20)
		if errors.Is(err, io.EOF) {
			if len(want) > 0 {
				t.Fatalf("no rows, want %q", want)
			}
			return
		}
		if err != nil || block.Rows() != len(want) {
			t.Fatalf("%d rows, %v, want %d", block.Rows(), err, len(want))
		}
		n := len(src.Columns())
		in := table.PlanInput{Name: "x", Datatype: job.Bytes, Shape: []int64{int64(n)}}
		for c := range n {
			in.Columns = append(in.Columns, c)
		}
		d := block.Decode(&table.Plan{Batchable: true, Inputs: []table.PlanInput{in}, ID: -1, Limits: job.DefaultLimits()})
		var good []int
		var data []byte
		for row, fields := range want {
			unfit := func(field string) bool { return !utf8.ValidString(field) || strings.Contains(field, "\x00") }
			if len(fields) == n && !slices.ContainsFunc(fields, unfit) {
				good = append(good, row)
				for _, field := range fields {
					data = job.AppendBytesElement(data, []byte(field))
				}
			}
		}
		if len(good) == 0 {
			if len(d.Groups) > 0 {
				t.Fatalf("got %+v, want no row", d)
			}
			return
		}
		if len(d.Groups) != 1 || !slices.Equal(d.Groups[0].Rows, good) || !bytes.Equal(d.Groups[0].Inputs[0].Data, data) {
			t.Fatalf("got %+v, want the rows %v of %q", d, good, want)
		}
	})
}
