package httpapi_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

const jsonLength = "Inference-Header-Content-Length"

// inferBinary sends a request whose JSON is followed by binary data.
func (r *rig) inferBinary(t testing.TB, model, text, data string) reply {
	t.Helper()
	return r.do(t, "POST", "/v2/models/"+model+"/infer", text+data, jsonLength, strconv.Itoa(len(text)), "Content-Type", "application/octet-stream")
}

// split divides a binary answer, and leaves the job's id out of its JSON.
func (a reply) split(t testing.TB) (text, data string) {
	t.Helper()
	n, err := strconv.Atoi(a.header.Get(jsonLength))
	if a.status != 200 || a.header.Get("Content-Type") != "application/octet-stream" || err != nil || n > len(a.body) {
		t.Fatalf("status %d, header %v: %q", a.status, a.header, a.body)
	}
	_, id, _ := strings.Cut(a.header.Get("Location"), "/v1/jobs/")
	return strings.Replace(a.body[:n], `"parameters":{"sheaf_job_id":"`+id+`"},`, "", 1), a.body[n:]
}

// kinds is one element of each datatype that the other tests lack, as raw data.
var kinds = []struct {
	datatype job.Datatype
	data     string
}{
	{job.Bool, "\x01"},
	{job.Uint16, "\x02\x01"},
	{job.Int64, "\xff\xff\xff\xff\xff\xff\xff\xff"},
	{job.FP16, "\x00\x3c"},
	{job.BF16, "\x80\x3f"},
	{job.FP64, "\x00\x00\x00\x00\x00\x00\xf0\x3f"},
	{job.Bytes, "\x03\x00\x00\x00a\xffb"}, // no text, which JSON could not have
}

// echoes serves a model "kinds" that has an input and an output of each kind, and answers with what it is given.
func (r *rig) echoes(t testing.TB) {
	t.Helper()
	info := model.Info{Name: "kinds", Version: "1", MaxRows: 64, Platform: model.PlatformONNX}
	info.Signature.Batchable = true
	for _, k := range kinds {
		spec := model.TensorSpec{Name: k.datatype.String(), Datatype: k.datatype, Shape: []int64{-1}}
		info.Signature.Inputs = append(info.Signature.Inputs, spec)
		info.Signature.Outputs = append(info.Signature.Outputs, spec)
	}
	r.models.Put(info)
	r.work(t, func(j job.Job) job.Result { return job.Result{State: job.Succeeded, Outputs: j.Inputs} })
}

func TestInferBinary(t *testing.T) {
	r := newRig(t, nil)
	r.echoes(t)
	var inputs, outputs, data []string
	for _, k := range kinds {
		inputs = append(inputs, fmt.Sprintf(`{"name":%q,"shape":[2],"datatype":%q,"parameters":{"binary_data_size":%d}}`, k.datatype, k.datatype, 2*len(k.data)))
		outputs = append(outputs, fmt.Sprintf(`{"name":%q,"shape":[2],"datatype":%q,"parameters":{"binary_data_size":%d}}`, k.datatype, k.datatype, 2*len(k.data)))
		data = append(data, k.data, k.data)
	}
	sent := strings.Join(data, "")
	a := r.inferBinary(t, "kinds", `{"id":"7","parameters":{"binary_data_output":true},"inputs":[`+strings.Join(inputs, ",")+`]}`, sent)
	text, got := a.split(t)
	if d := cmp.Diff(`{"model_name":"kinds","model_version":"2","id":"7","outputs":[`+strings.Join(outputs, ",")+`]}`, text); d != "" {
		t.Error(d)
	}
	if got != sent {
		t.Errorf("the data is %q, expected %q", got, sent)
	}

	// The same answered as JSON: floats of 16 bits are numbers, as under /v1.
	a = r.inferBinary(t, "kinds", `{"inputs":[`+strings.Join(inputs, ",")+`]}`, sent)
	for _, want := range []string{
		`"datatype":"BOOL","data":[true,true]`, `"datatype":"UINT16","data":[258,258]`, `"datatype":"INT64","data":[-1,-1]`,
		`"datatype":"FP16","data":[1,1]`, `"datatype":"BF16","data":[1,1]`, `"datatype":"FP64","data":[1,1]`, `"datatype":"BYTES","data":["a` + "\uFFFD" + `b",`,
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("expected %s in %s", want, a.body)
		}
	}
}

// Each input is given in the JSON or after it, in whatever order, and each output comes as it is asked for.
func TestInferMixed(t *testing.T) {
	const name, age = "\x02\x00\x00\x00é", "\xf9"
	const scores, label = "\x00\x00\x80\x3f\x00\x00\x00\x3f", "\x07\x00\x00\x00\x00\x00\x00\x00"
	const inputName, inputAge = `{"name":"name","shape":[1],"datatype":"BYTES",`, `{"name":"age","shape":[1],"datatype":"INT8",`
	const binaryScores = `{"name":"scores","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}`
	const binaryLabel = `{"name":"label","shape":[1],"datatype":"INT64","parameters":{"binary_data_size":8}}`
	const jsonScores = `{"name":"scores","shape":[1,2],"datatype":"FP32","data":[1,0.5]}`
	const jsonLabel = `{"name":"label","shape":[1],"datatype":"INT64","data":[7]}`
	for _, c := range []struct{ name, text, data, want, wantData string }{
		{
			"both binary, the model's second first, one output binary",
			`{"inputs":[` + inputName + `"parameters":{"binary_data_size":6}},` + inputAge + `"parameters":{"binary_data_size":1}}],"outputs":[{"name":"scores"},{"name":"label","parameters":{"binary_data":true}}]}`,
			name + age, jsonScores + "," + binaryLabel, label,
		},
		{
			"parameters before the shape, JSON between",
			`{"outputs":[{"parameters":{"binary_data":true},"name":"label"},{"name":"scores","parameters":{"binary_data":true}}],"inputs":[{"parameters":{"binary_data_size":1},"name":"age","datatype":"INT8","shape":[1]},` + inputName + `"data":["é"]}]}`,
			age, binaryLabel + "," + binaryScores, label + scores,
		},
		{
			"an output overrules the request",
			`{"parameters":{"binary_data_output":true},"inputs":[` + inputName + `"parameters":{"binary_data_size":6}},` + inputAge + `"data":[-7]}],"outputs":[{"name":"label","parameters":{"binary_data":false}},{"name":"scores"}]}`,
			name, jsonLabel + "," + binaryScores, scores,
		},
		{
			"all outputs binary, no input",
			wine(`"parameters":{"binary_data_output":true},`), "", binaryScores + "," + binaryLabel, scores + label,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			jobs := r.seen(t, wineResult)
			text, data := r.inferBinary(t, "wine.red", c.text, c.data).split(t)
			if d := cmp.Diff(`{"model_name":"wine.red","model_version":"2","outputs":[`+c.want+`]}`, text); d != "" {
				t.Error(d)
			}
			if data != c.wantData {
				t.Errorf("the data is %q, expected %q", data, c.wantData)
			}
			j := <-jobs
			if j.Inputs[0].Name != "age" || string(j.Inputs[0].Data) != age || string(j.Inputs[1].Data) != name || len(j.Parameters) != 0 {
				t.Errorf("the job is %+v", j)
			}
		})
	}
}

// The buffer of a body serves the next request: no job may point into it.
func TestInferKeepsItsBytes(t *testing.T) {
	r := newRig(t, nil)
	const text = `{"inputs":[{"name":"s","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}`
	first := make(chan job.Job, 1)
	release := make(chan struct{})
	r.queue.onPublish = func(ticket job.Ticket, j job.Job) {
		if string(j.Inputs[0].Data[4:]) == "aaaa" {
			first <- j
			<-release
		}
		r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: j.Inputs})
	}
	done := make(chan string)
	r.listen(t)
	go func() {
		a := r.inferBinary(t, "text", text, "\x04\x00\x00\x00aaaa")
		done <- a.body
	}()
	j := <-first
	for range 20 {
		r.inferBinary(t, "text", text, "\x04\x00\x00\x00bbbb")
	}
	close(release)
	if body := <-done; !strings.Contains(body, `"aaaa"`) || string(j.Inputs[0].Data[4:]) != "aaaa" {
		t.Errorf("the job has %q now: %s", j.Inputs[0].Data, body)
	}
}

func TestInferBadBinary(t *testing.T) {
	const row = "0123456789abcdef" // four of FP32
	const good = `{"inputs":[{"name":"x","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}}]}`
	size := func(s string) string { return strings.Replace(good, "16", s, 1) }
	n := strconv.Itoa(len(good))
	for _, c := range []struct {
		name, model, body, length string
		status                    int
		code, field               string
	}{
		{"length that is no number", "digits", good + row, "x", 400, "malformed", jsonLength},
		{"empty length", "digits", good + row, "", 400, "malformed", jsonLength},
		{"negative length", "digits", good + row, "-1", 400, "malformed", jsonLength},
		{"length with a fraction", "digits", good + row, n + ".0", 400, "malformed", jsonLength},
		{"length of 0", "digits", good + row, "0", 400, "malformed", jsonLength},
		{"length above the body's", "digits", good + row, strconv.Itoa(len(good) + 17), 400, "malformed", jsonLength},
		{"length above 64 bits", "digits", good + row, "99999999999999999999", 400, "malformed", jsonLength},
		{"length too short for the JSON", "digits", good + row, strconv.Itoa(len(good) - 1), 400, "malformed", ""},
		{"length too long for the JSON", "digits", good + row, strconv.Itoa(len(good) + 1), 400, "malformed", ""},
		{"no length", "digits", good + row, "none", 400, "malformed", ""},
		{"no length and no data", "digits", good, "none", 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"bytes that are missing", "digits", good + row[1:], n, 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"bytes that are left over", "digits", good + row + "x", n, 400, "malformed", ""},
		{"data that no input wants", "digits", wine("") + row, strconv.Itoa(len(wine(""))), 400, "malformed", ""},
		{"both data", "digits", strings.Replace(good, `"parameters"`, `"data":[1,2,3,4],"parameters"`, 1) + row, strconv.Itoa(len(good) + 17), 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"negative size", "digits", size("-1") + row, n, 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"size with a fraction", "digits", size("1.6e1") + row, strconv.Itoa(len(good) + 3), 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"size of another kind", "digits", size("[]") + row, n, 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"huge size", "digits", size("9223372036854775807") + row, strconv.Itoa(len(good) + 17), 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"size above 64 bits", "digits", size("9223372036854775808") + row, strconv.Itoa(len(good) + 17), 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"size twice", "digits", size(`16,"binary_data_size":16`) + row, strconv.Itoa(len(good) + 22), 400, "malformed", "inputs[0].parameters.binary_data_size"},
		{"size that is not the shape's", "digits", size("12") + row[:12], n, 422, "invalid", "inputs[0].data"},
		{"BOOL that is none", "kinds", `{"inputs":[{"name":"BOOL","shape":[1],"datatype":"BOOL","parameters":{"binary_data_size":1}}]}` + "\x02", "93", 422, "invalid", "inputs[0].data"},
		{"BYTES that end early", "text", `{"inputs":[{"name":"s","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":6}}]}` + "\x03\x00\x00\x00ab", "91", 422, "invalid", "inputs[0].data"},
		{"BYTES of too many elements", "text", `{"inputs":[{"name":"s","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":8}}]}` + strings.Repeat("\x00", 8), "91", 422, "invalid", "inputs[0].data"},
		{"datatype of another size", "digits", strings.Replace(good, "FP32", "FP64", 1) + row, n, 422, "invalid", "inputs[0].data"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.echoes(t)
			header := []string{jsonLength, c.length}
			if c.length == "none" {
				header = nil
			}
			a := r.do(t, "POST", "/v2/models/"+c.model+"/infer", c.body, header...)
			a.oipError(t, c.status, c.code)
			if a.str("field") != c.field && (c.field != "" || c.status != 400) {
				t.Errorf("field %q, expected %q: %s", a.str("field"), c.field, a.body)
			}
			if len(r.queue.byKey) != 0 {
				t.Error("a job was published")
			}
			if strings.Contains(a.body, row[4:]) {
				t.Errorf("the input is echoed: %s", a.body)
			}
		})
	}
	t.Run("length twice", func(t *testing.T) {
		r := newRig(t, nil)
		r.do(t, "POST", "/v2/models/digits/infer", good+row, jsonLength, n, jsonLength, n).oipError(t, 400, "malformed")
	})
	t.Run("too large with its data", func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.MaxBodyBytes = int64(len(good) + 15) })
		r.inferBinary(t, "digits", good, row).oipError(t, 413, "too-large")
	})
}

// FuzzOIPBinary looks for bodies that are taken although their bytes do not add up, or that are not answered as they
// should be.
func FuzzOIPBinary(f *testing.F) {
	const head = `{"inputs":[{"name":"s","shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":`
	for _, c := range []struct{ text, data string }{
		{head + `6}}]}`, "\x02\x00\x00\x00ab"},
		{head + `6}}],"parameters":{"binary_data_output":true}}`, "\x02\x00\x00\x00ab"},
		{`{"inputs":[{"name":"s","shape":[1],"datatype":"BYTES","data":["a"]}]}`, ""},
		{head + `-6}}]}`, "\xff\xff\xff\xff"},
		{head + `6}}]}`, "\xff\xff\xff\xffab"},
	} {
		f.Add(strconv.Itoa(len(c.text)), []byte(c.text+c.data))
		f.Add("-1", []byte(c.text+c.data))
	}
	r := newRig(f, nil)
	f.Fuzz(func(t *testing.T, length string, body []byte) {
		r.work(t, func(j job.Job) job.Result { return job.Result{State: job.Succeeded, Outputs: j.Inputs} })
		a := r.call(t, "POST", "/v2/models/text/infer", string(body), jsonLength, length)
		n, err := strconv.Atoi(length)
		switch {
		case a.status == 200 && (err != nil || n < 1 || n > len(body)):
			t.Fatalf("a JSON of %q bytes was found in %d", length, len(body))
		case a.status == 200 && n < len(body) && a.header.Get(jsonLength) != "":
			// The model echoes its one input, so what was sent binary comes back so.
			if text, data := a.split(t); data != string(body[n:]) {
				t.Fatalf("%q was taken for %q: %s", body[n:], data, text)
			}
		case a.str("type") == "/problems/expired" || a.str("type") == "/problems/overloaded": // the body has a timeout
		case a.status != 200 && (a.status < 400 || a.status >= 500 || a.str("error") == "" || len(a.body) > 4096):
			t.Fatalf("status %d: %.5000s", a.status, a.body)
		}
	})
}
