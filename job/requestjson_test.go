package job_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
)

func decodeJSON(body string) (job.Job, error) {
	var j job.Job
	err := job.DecodeRequestJSON([]byte(body), &j, job.DefaultLimits(), nil)
	return j, err
}

func TestRequestJSONEveryDatatype(t *testing.T) {
	for _, s := range samples(t) {
		flat, in := s.json, s.tensor
		nested := "[[" + strings.Replace(strings.Trim(flat, "[]"), ",", "],[", 1) + "]]"
		if in.Datatype == job.Bytes {
			nested = `[[""],` + "[" + strings.TrimPrefix(flat, `["",`) + "]"
		}
		for _, data := range []string{flat, nested} {
			for _, order := range []string{
				`{"name":%q,"shape":[2,1],"datatype":%q,"data":%s}`,
				`{"name":%[1]q,"data":%[3]s,"datatype":%[2]q,"shape":[2,1]}`,
				` { "x" : {"y":[null]} , "parameters":{"p":1}, "datatype":%[2]q,"data": %[3]s ,"shape":[ 2 , 1 ],"name":%[1]q } `,
			} {
				body := `{"inputs":[` + fmt.Sprintf(order, in.Name, in.Datatype, data) + `]}`
				got, err := decodeJSON(body)
				if err != nil {
					t.Errorf("%s: %v", body, err)
					continue
				}
				if d := diff(job.Job{Inputs: []job.Tensor{in}}, got); d != "" {
					t.Errorf("%s (-want +got):\n%s", body, d)
				}
			}
		}
	}
}

func TestRequestJSONEveryMember(t *testing.T) {
	body := `{
		"outputs": [{"name":"b","parameters":{"classification":2}},{"name":"a"}],
		"parameters": {"z":"Aé\n😀\/","b":true,"i":-9223372036854775808,"f":1e2,"c":false},
		"inputs": [
			{"name":"scalar","shape":[],"datatype":"INT8","data":5},
			{"name":"one","shape":[],"datatype":"INT8","data":[6]},
			{"name":"empty","shape":[2,0,3],"datatype":"INT8","data":[[],[]]},
			{"name":"flat","shape":[0,3],"datatype":"INT8","data":[]},
			{"name":"x","shape":[1,2,2],"datatype":"INT8","data":[[[1,2],[3,4]]]}
		],
		"unknown": [1,{"a":null}],
		"model_name": "digits", "model_version": "2", "id": "mine é"
	}`
	want := job.Job{
		Model: "digits", Version: "2", RequestID: "mine é", Outputs: []string{"b", "a"},
		Parameters: []job.Parameter{
			{Name: "b", Value: true},
			{Name: "c", Value: false},
			{Name: "f", Value: 100.0},
			{Name: "i", Value: int64(-1 << 63)},
			{Name: "z", Value: "Aé\n😀/"},
		},
		Inputs: []job.Tensor{
			{Name: "scalar", Datatype: job.Int8, Data: []byte{5}},
			{Name: "one", Datatype: job.Int8, Data: []byte{6}},
			{Name: "empty", Datatype: job.Int8, Shape: []int64{2, 0, 3}},
			{Name: "flat", Datatype: job.Int8, Shape: []int64{0, 3}},
			{Name: "x", Datatype: job.Int8, Shape: []int64{1, 2, 2}, Data: []byte{1, 2, 3, 4}},
		},
	}
	got, err := decodeJSON(body)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for n := range body {
		if _, err := decodeJSON(body[:n]); err == nil {
			t.Fatalf("the first %d bytes were accepted", n)
		} else if e := err.(*job.Error); e.Code != job.CodeMalformed { //nolint:errorlint // the contract is the type itself
			t.Fatalf("the first %d bytes: got %s (%v), want malformed", n, e.Code, e)
		}
	}
}

func TestRequestJSONNullIsAbsent(t *testing.T) {
	got, err := decodeJSON(`{"id":null,"model_name":null,"model_version":null,"parameters":null,"outputs":null,
		"inputs":[{"name":"x","shape":[1],"datatype":"BOOL","data":[true],"parameters":null}]}`)
	if err != nil {
		t.Fatal(err)
	}
	want := job.Job{Inputs: []job.Tensor{{Name: "x", Datatype: job.Bool, Shape: []int64{1}, Data: []byte{1}}}}
	if d := diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRequestJSONExtra(t *testing.T) {
	var got []string
	extra := func(name string, value []byte) error {
		got = append(got, name+"="+string(value))
		return nil
	}
	body := ` {"a b": [ 1 , 2 ] , "inputs":[], "input":"x", "n":null,"o":{ } } `
	if err := job.DecodeRequestJSON([]byte(body), new(job.Job), job.DefaultLimits(), extra); err != nil {
		t.Fatal(err)
	}
	if d := diff([]string{"a b=[ 1 , 2 ]", `input="x"`, "n=null", "o={ }"}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	for _, fault := range []error{job.Invalidf("input", "no"), errors.New("no")} {
		err := job.DecodeRequestJSON([]byte(body), new(job.Job), job.DefaultLimits(), func(string, []byte) error { return fault })
		if e, ok := err.(*job.Error); !ok || e.Detail != "no" { //nolint:errorlint // the contract is the type itself
			t.Errorf("got %#v, want the error of extra as a *job.Error", err)
		}
	}
}

func TestRequestJSONKeepsWhatIsSet(t *testing.T) {
	lim := job.DefaultLimits()
	j := job.Job{Model: "digits", Version: "1"}
	if err := job.DecodeRequestJSON([]byte(`{"model_name":"digits","model_version":"1"}`), &j, lim, nil); err != nil {
		t.Error(err)
	}
	err := job.DecodeRequestJSON([]byte(`{"model_name":"tabular"}`), &j, lim, nil)
	wantError(t, err, job.CodeInvalid, "model_name", "expected the model that the request was sent to, found another")
	err = job.DecodeRequestJSON([]byte(`{"model_version":"2"}`), &j, lim, nil)
	wantError(t, err, job.CodeInvalid, "model_version", "the request asks for two different versions")
	if j.Model != "digits" || j.Version != "1" {
		t.Errorf("model and version are now %s %s", j.Model, j.Version)
	}
}

func TestRequestJSONThatIsRefused(t *testing.T) {
	const (
		malformed = job.CodeMalformed
		invalid   = job.CodeInvalid
	)
	x := func(shape, datatype, data string) string {
		return `{"inputs":[{"name":"x","shape":` + shape + `,"datatype":"` + datatype + `","data":` + data + `}]}`
	}
	tests := []struct {
		name, body    string
		code          job.Code
		field, detail string
	}{
		{"empty", ``, malformed, "", "byte 0: the text ends here, expected an object"},
		{"blank", "  \n", malformed, "", "byte 3: the text ends here, expected an object"},
		{"array", `[]`, invalid, "", "expected an object, found an array"},
		{"trailing", `{} {}`, malformed, "", "byte 3: expected the end of the text, found '{'"},
		{"trailing NUL", "{}\x00", malformed, "", "byte 2: expected the end of the text, found '\\x00'"},
		{"not UTF-8", "{\"id\":\"\xff\"}", malformed, "", "byte 7: not valid UTF-8"},
		{"byte order mark", "\uFEFF{}", malformed, "", "byte 0: expected an object, found '\\ufeff'"},
		{"comma before the end", `{"id":"a",}`, malformed, "", "byte 10: expected a member's name in double quotes, found '}'"},
		{"no colon", `{"id" "a"}`, malformed, "", "byte 6: expected ':', found '\"'"},
		{"no comma", `{"id":"a" "b":1}`, malformed, "", "byte 10: expected ',' or '}', found '\"'"},
		{"comment", `{/**/}`, malformed, "", "byte 1: expected a member's name in double quotes, found '/'"},
		{"deep", `{"u":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, malformed, "", "byte 70: nested more than 64 deep"},
		{"member twice", `{"id":"a","id":"a"}`, malformed, "id", "the member is given twice"},
		{"member twice, once escaped", `{"id":"a","\u0069d":"a"}`, malformed, "id", "the member is given twice"},
		{"control character", "{\"id\":\"a\nb\"}", malformed, "id", "byte 8: expected an escape for a control character, found '\\n'"},
		{"bad escape", `{"id":"\x"}`, malformed, "id", `byte 8: expected one of " \ / b f n r t u, found 'x'`},
		{"bad hex", `{"id":"\u12g4"}`, malformed, "id", "byte 11: expected four hexadecimal digits, found 'g'"},
		{"lone surrogate", `{"id":"\ud83dx"}`, malformed, "id", "byte 7: half of a surrogate pair stands alone, the string is not valid Unicode"},
		{"surrogates in the wrong order", `{"id":"\ude00\ud83d"}`, malformed, "id", "byte 7: half of a surrogate pair stands alone, the string is not valid Unicode"},
		{"id a number", `{"id":5}`, invalid, "id", "expected a string, found a number"},
		{"id with a control character", `{"id":"\u0000"}`, invalid, "id", "expected text without control characters, at most 1024 bytes"},
		{"version a path", `{"model_version":".."}`, invalid, "model_version", "expected a version: 1 to 128 letters, digits, '-', '_' and '.', starting with a letter or a digit"},

		{"inputs an object", `{"inputs":{}}`, invalid, "inputs", "expected an array, found an object"},
		{"inputs null", `{"inputs":null}`, invalid, "inputs", "expected an array, found null"},
		{"input a number", `{"inputs":[1]}`, invalid, "inputs[0]", "expected an object, found a number"},
		{"no name", `{"inputs":[{"shape":[0],"datatype":"BOOL","data":[]}]}`, invalid, "inputs[0].name", "the input needs this member"},
		{"no shape", `{"inputs":[{"name":"x","datatype":"BOOL","data":[]}]}`, invalid, "inputs[0].shape", "the input needs this member"},
		{"no datatype", `{"inputs":[{"name":"x","shape":[0],"data":[]}]}`, invalid, "inputs[0].datatype", "the input needs this member"},
		{"no data", `{"inputs":[{"name":"x","shape":[0],"datatype":"BOOL"}]}`, invalid, "inputs[0].data", "the input needs this member"},
		{"empty name", `{"inputs":[{"name":""}]}`, invalid, "inputs[0].name", "expected a name of 1 to 1024 bytes"},
		{"datatype in small letters", x("[1]", "fp32", "[1]"), invalid, "inputs[0].datatype", "expected one of BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES"},
		{"shape twice", `{"inputs":[{"shape":[1],"shape":[1]}]}`, malformed, "inputs[0].shape", "the member is given twice"},
		{"shape a number", x("1", "FP32", "[1]"), invalid, "inputs[0].shape", "expected an array, found a number"},
		{"dimension a string", x(`[1,"2"]`, "FP32", "[1]"), invalid, "inputs[0].shape[1]", "expected an integer, found a string"},
		{"dimension a fraction", x(`[1.0]`, "FP32", "[1]"), invalid, "inputs[0].shape[0]", "expected an integer, got 1.0"},
		{"dimension beyond int64", x(`[9999999999999999999]`, "FP32", "[1]"), invalid, "inputs[0].shape[0]", "9999999999999999999 is too large for a dimension"},
		{"dimension negative", x(`[1,-1]`, "FP32", "[1]"), invalid, "inputs[0].shape", "dimension 1 is -1: a dimension cannot be negative"},
		{"dimension huge", x(`[9223372036854775807]`, "FP32", "[1]"), invalid, "inputs[0].shape", "expected at most 8388608 elements in a tensor, the shape has more"},
		{"product overflows", x(`[4294967296,4294967296]`, "FP32", "[1]"), invalid, "inputs[0].shape", "expected at most 8388608 elements in a tensor, the shape has more"},
		{"rank", x(`[1,1,1,1,1,1,1,1,1]`, "FP32", "[1]"), invalid, "inputs[0].shape[8]", "expected at most 8 dimensions"},
		{"claims more than is there", x(`[8000000]`, "FP32", "[1]"), invalid, "inputs[0].data", "expected 8000000 elements for the shape, there are fewer"},
		{"too few", x(`[2,2]`, "FP32", "[1,2,3]"), invalid, "inputs[0].data", "expected 4 elements for the shape, got 3"},
		{"too many", x(`[2,1]`, "FP32", "[1,2,3]"), invalid, "inputs[0].data", "expected 2 elements for the shape, got more"},
		{"one too deep", x(`[2]`, "FP32", "[[1],[2]]"), invalid, "inputs[0].data", "expected a flat array, or one nested 1 deep as the shape is, got one nested 2 deep"},
		{"one too shallow", x(`[1,1,1]`, "FP32", "[[1]]"), invalid, "inputs[0].data", "expected a flat array, or one nested 3 deep as the shape is, got one nested 2 deep"},
		{"bare value", x(`[1]`, "FP32", "1"), invalid, "inputs[0].data", "expected a flat array, or one nested 1 deep as the shape is, got one nested 0 deep"},
		{"another shape", x(`[3,2]`, "FP32", "[[1,2,3],[4,5,6]]"), invalid, "inputs[0].data", "expected an array nested as the shape says: dimension 0 is 3 in the shape and 2 in the data"},
		{"ragged", x(`[2,2]`, "FP32", "[[1,2],[3]]"), invalid, "inputs[0].data[1]", "the array is ragged: expected 2 items as in those before it, got 1"},
		{"data an object", x(`[1]`, "FP32", "{}"), invalid, "inputs[0].data", "element 0: expected a number, found an object"},

		{"overflow", x(`[4]`, "FP32", "[0,1,2,1e39]"), invalid, "inputs[0].data", "element 3: 1e39 does not fit FP32"},
		{"overflow FP64", x(`[1]`, "FP64", "[-1e309]"), invalid, "inputs[0].data", "element 0: -1e309 does not fit FP64"},
		{"overflow FP16", x(`[1]`, "FP16", "[65520]"), invalid, "inputs[0].data", "element 0: 65520 does not fit FP16"},
		{"overflow BF16", x(`[1]`, "BF16", "[3.4e38]"), invalid, "inputs[0].data", "element 0: 3.4e38 does not fit BF16"},
		{"overflow UINT8", x(`[1]`, "UINT8", "[256]"), invalid, "inputs[0].data", "element 0: 256 does not fit UINT8"},
		{"overflow INT64", x(`[1]`, "INT64", "[9223372036854775808]"), invalid, "inputs[0].data", "element 0: 9223372036854775808 does not fit INT64"},
		{"overflow UINT64", x(`[1]`, "UINT64", "[18446744073709551616]"), invalid, "inputs[0].data", "element 0: 18446744073709551616 does not fit UINT64"},
		{"negative unsigned", x(`[1]`, "UINT64", "[-1]"), invalid, "inputs[0].data", "element 0: -1 does not fit UINT64"},
		{"fraction for an integer", x(`[1]`, "INT32", "[1.0]"), invalid, "inputs[0].data", "element 0: expected an integer for INT32, got 1.0"},
		{"exponent for an integer", x(`[1]`, "INT32", "[1e2]"), invalid, "inputs[0].data", "element 0: expected an integer for INT32, got 1e2"},
		{"long literal", x(`[1]`, "INT8", "[123456789012345678901234567890]"), invalid, "inputs[0].data", "element 0: 12345678901234567... does not fit INT8"},
		{"NaN", x(`[1]`, "FP32", "[NaN]"), malformed, "inputs[0].data", "element 0: byte 61: expected a number, found 'N'"},
		{"-Infinity", x(`[1]`, "FP32", "[-Infinity]"), malformed, "inputs[0].data", "element 0: byte 62: expected a digit, found 'I'"},
		{"null element", x(`[1]`, "FP32", "[null]"), invalid, "inputs[0].data", "element 0: expected a number, found null"},
		{"string for a number", x(`[1]`, "FP32", `["secret"]`), invalid, "inputs[0].data", "element 0: expected a number, found a string"},
		{"number for a BOOL", x(`[1]`, "BOOL", `[1]`), invalid, "inputs[0].data", "element 0: expected true or false, found a number"},
		{"number for a BYTES", x(`[1]`, "BYTES", `[1]`), invalid, "inputs[0].data", "element 0: expected a string, found a number"},
		{"leading zero", x(`[1]`, "FP32", `[01]`), malformed, "inputs[0].data", "byte 62: expected ',' or ']', found '1'"},
		{"plus", x(`[1]`, "FP32", `[+1]`), malformed, "inputs[0].data", "element 0: byte 61: expected a number, found '+'"},
		{"no digit after the point", x(`[1]`, "FP32", `[1.]`), malformed, "inputs[0].data", "element 0: byte 63: expected a digit, found ']'"},
		{"no exponent", x(`[1]`, "FP32", `[1e+]`), malformed, "inputs[0].data", "element 0: byte 64: expected a digit, found ']'"},
		{"hexadecimal", x(`[1]`, "FP32", `[0x1]`), malformed, "inputs[0].data", "byte 62: expected ',' or ']', found 'x'"},
		{"comma before the bracket", x(`[2]`, "FP32", `[1,]`), malformed, "inputs[0].data", "element 1: byte 63: expected a number, found ']'"},

		{"binary data", `{"inputs":[{"name":"x","parameters":{"binary_data_size":4}}]}`, invalid, "inputs[0].parameters.binary_data_size", "binary data after the JSON is not taken here: put the data into `data`"},
		{
			"input twice", `{"inputs":[{"name":"x","shape":[0],"datatype":"FP32","data":[]},{"name":"x","shape":[0],"datatype":"FP32","data":[]}]}`,
			invalid, "inputs[1].name", "the same name as inputs[0]; each input is given once",
		},
		{"output twice", `{"outputs":[{"name":"y"},{"name":"y"}]}`, invalid, "outputs[1].name", "the same name as outputs[0]; each output is asked for once"},
		{"output a string", `{"outputs":["y"]}`, invalid, "outputs[0]", "expected an object, found a string"},
		{"output without a name", `{"outputs":[{}]}`, invalid, "outputs[0].name", "an output needs a name"},
		{"parameter an object", `{"parameters":{"p":{}}}`, invalid, "parameters.p", "expected a boolean, a number or a string, found an object"},
		{"parameter null", `{"parameters":{"p":null}}`, invalid, "parameters.p", "expected a boolean, a number or a string, found null"},
		{"parameter too large", `{"parameters":{"p":9223372036854775808}}`, invalid, "parameters.p", "9223372036854775808 does not fit a 64-bit integer"},
		{"parameter no float", `{"parameters":{"p":1e999}}`, invalid, "parameters.p", "1e999 does not fit FP64"},
		{"parameter twice", `{"parameters":{"p":1,"q":2,"p":3}}`, invalid, "parameters.p", "given twice"},
		{"parameter without a name", `{"parameters":{"":1}}`, invalid, "parameters", "expected names without control characters, of 1 to 1024 bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := decodeJSON(tt.body)
			wantError(t, err, tt.code, tt.field, tt.detail)
		})
	}
}

// The data may stand before what is needed to read it; the same errors come out.
func TestRequestJSONDataFirst(t *testing.T) {
	_, err := decodeJSON(`{"inputs":[{"data":[1,1e39],"name":"x","datatype":"FP32","shape":[2]}]}`)
	wantError(t, err, job.CodeInvalid, "inputs[0].data", "element 1: 1e39 does not fit FP32")
	_, err = decodeJSON(`{"inputs":[{"data":[1,NaN],"name":"x","datatype":"FP32","shape":[2]}]}`)
	wantError(t, err, job.CodeMalformed, "inputs[0].data", "byte 22: expected a value, found 'N'")
	_, err = decodeJSON(`{"inputs":[{"data":[1],"name":"x","datatype":"FP32","shape":[-1]}]}`)
	wantError(t, err, job.CodeInvalid, "inputs[0].shape", "dimension 0 is -1: a dimension cannot be negative")
}

func TestRequestJSONLimits(t *testing.T) {
	const body = `{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]},{"name":"y","shape":[1],"datatype":"FP32","data":[1]}],"outputs":[{"name":"a"},{"name":"b"}]}`
	tests := []struct {
		name  string
		set   func(*job.Limits)
		code  job.Code
		field string
	}{
		{"bytes", func(l *job.Limits) { l.MaxBytes = len(body) - 1 }, job.CodeTooLarge, ""},
		{"tensors", func(l *job.Limits) { l.MaxTensors = 1 }, job.CodeInvalid, "inputs[1]"},
		{"rank", func(l *job.Limits) { l.MaxRank = 1 }, job.CodeInvalid, "inputs[0].shape[1]"},
		{"elements", func(l *job.Limits) { l.MaxElements = 1 }, job.CodeInvalid, "inputs[0].shape"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			lim := job.DefaultLimits()
			tt.set(&lim)
			err := job.DecodeRequestJSON([]byte(body), new(job.Job), lim, nil)
			if e, ok := err.(*job.Error); !ok || e.Code != tt.code || e.Field != tt.field { //nolint:errorlint // the contract is the type itself
				t.Errorf("got %v, want %s at %q", err, tt.code, tt.field)
			}
		})
	}
	var many strings.Builder
	for i := range 129 {
		fmt.Fprintf(&many, `,"p%d":1`, i)
	}
	_, err := decodeJSON(`{"parameters":{` + many.String()[1:] + `}}`)
	wantError(t, err, job.CodeInvalid, "parameters", "expected at most 128 parameters")
}
