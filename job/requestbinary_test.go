package job_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
)

// TestDecodeRequestBinary: the inputs take their bytes in their own order, and alias them.
func TestDecodeRequestBinary(t *testing.T) {
	data := []byte("\x01\x00\x02")
	var j job.Job
	var told []any
	err := job.DecodeRequestBinary([]byte(`{"what":1,"outputs":[{"name":"y","parameters":null},{"parameters":{"binary_data":true,"n":2},"name":"z"}],"inputs":[
		{"name":"a","parameters":{"binary_data_size":2},"datatype":"BOOL","shape":[2]},
		{"name":"b","shape":[0],"datatype":"FP32","parameters":{"binary_data_size":0}},
		{"name":"c","shape":[1],"datatype":"UINT8","data":[9],"parameters":{}},
		{"name":"d","shape":[1],"datatype":"INT8","parameters":{"x":[],"binary_data_size":1}}]}`), data, &j, job.DefaultLimits(),
		func(i int, name string, value any) error { told = append(told, i, name, value); return nil })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, in := range j.Inputs {
		got = append(got, in.Name+string(in.Data))
	}
	if d := cmp.Diff([]string{"a\x01\x00", "b", "c\x09", "d\x02"}, got); d != "" {
		t.Error(d)
	}
	if &j.Inputs[3].Data[0] != &data[2] || cap(j.Inputs[0].Data) != 2 {
		t.Error("expected the tensors to alias their own part of the data alone")
	}
	if d := cmp.Diff([]any{1, "binary_data", true, 1, "n", int64(2)}, told); d != "" {
		t.Error(d)
	}
}

func TestDecodeRequestBinaryRefuses(t *testing.T) {
	const x = `{"inputs":[{"name":"x","shape":[2],"datatype":"INT8","parameters":{"binary_data_size":2}}]}`
	lim := job.DefaultLimits()
	lim.MaxBytes = len(x) + 3
	refuse := func(int, string, any) error { return job.Invalidf("", "no such parameter") }
	for _, c := range []struct {
		name, body, data string
		code             job.Code
		field            string
	}{
		{"too few bytes", x, "1", job.CodeMalformed, "inputs[0].parameters.binary_data_size"},
		{"too many bytes", x, "123", job.CodeMalformed, ""},
		{"too many for the limit", x, "1234", job.CodeTooLarge, ""},
		{"a parameter that the caller refuses", `{"outputs":[{"name":"y","parameters":{"p":1}}]}`, "", job.CodeInvalid, "outputs[0].parameters.p"},
		{"a parameter that is none", `{"outputs":[{"name":"y","parameters":{"p":[]}}]}`, "", job.CodeInvalid, "outputs[0].parameters.p"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var e *job.Error
			err := job.DecodeRequestBinary([]byte(c.body), []byte(c.data), new(job.Job), lim, refuse)
			if !errors.As(err, &e) || e.Code != c.code || e.Field != c.field {
				t.Errorf("got %v, expected %s at %q", err, c.code, c.field)
			}
		})
	}
}
