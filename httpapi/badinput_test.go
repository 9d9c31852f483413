package httpapi_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

// input is a body with one tensor.
func input(name, shape, datatype, data string) string {
	return fmt.Sprintf(`{"inputs":[{"name":%q,"shape":%s,"datatype":%q,"data":%s}]}`, name, shape, datatype, data)
}

// marker stands in inputs; it must never come back.
const marker = "8137.25"

func TestBadInput(t *testing.T) {
	const digits, text, wine, grid = "digits", "text", "wine.red", "grid"
	long := strings.Repeat("n", 5000)
	rows := func(n int) string { return strings.TrimSuffix(strings.Repeat("["+marker+",1,1,1],", n), ",") }
	for _, c := range []struct {
		name, model, body string
		status            int
		code, field       string
	}{
		{"unknown model", "nobody", oneRow, 404, "unknown-model", "model"},
		{"model name that cannot be", "..%2Fetc", oneRow, 404, "unknown-model", "model"},
		{"unknown version in the body", digits, `{"model_version":"9","input":[1,2,3,4]}`, 404, "unknown-model", "model_version"},
		{"other model in the body", digits, `{"model_name":"text","input":[1,2,3,4]}`, 422, "invalid", "model_name"},

		{"empty body", digits, ``, 400, "malformed", ""},
		{"not JSON", digits, `input=1`, 400, "malformed", ""},
		{"cut off", digits, `{"input":[` + marker + `,2`, 400, "malformed", ""},
		{"cut off after the array", digits, `{"input":[` + marker + `,2,3,4]`, 400, "malformed", ""},
		{"trailing text", digits, oneRow + `x`, 400, "malformed", ""},
		{"an array", digits, `[1,2,3,4]`, 422, "invalid", ""},
		{"null", digits, `null`, 422, "invalid", ""},
		{"deep nesting", digits, `{"parameters":{"a":` + strings.Repeat("[", 10_000), 422, "invalid", ""},
		{"deep input", digits, `{"input":` + strings.Repeat("[", 10_000), 400, "malformed", ""},
		{"not UTF-8", text, "{\"input\":[\"\xff\xfe\"]}", 400, "malformed", ""},
		{"half a surrogate pair", text, `{"input":["\ud800"]}`, 400, "malformed", ""},
		{"control character", text, "{\"input\":[\"\x01\"]}", 400, "malformed", ""},

		{"nothing", digits, `{}`, 422, "invalid", "inputs"},
		{"no inputs", digits, `{"inputs":[]}`, 422, "invalid", "inputs"},
		{"inputs of another kind", digits, `{"inputs":7}`, 422, "invalid", "inputs"},
		{"both forms", digits, `{"input":[1,2,3,4],` + input("x", "[1,4]", "FP32", "[1,2,3,4]")[1:], 422, "invalid", "input"},
		{"input twice", digits, `{"input":[1,2,3,4],"input":[1,2,3,4]}`, 400, "malformed", "input"},
		{"shorthand for two inputs", wine, `{"input":[1,2]}`, 422, "invalid", "input"},
		{"unknown member", digits, `{"inptu":[` + marker + `]}`, 422, "invalid", "inptu"},
		{"long unknown member", digits, `{"` + long + `":1}`, 422, "invalid", ""},
		{"unknown lane", digits, `{"lane":"fast","input":[1,2,3,4]}`, 422, "invalid", "lane"},
		{"lane of another kind", digits, `{"lane":{},"input":[1,2,3,4]}`, 422, "invalid", "lane"},

		{"wrong rank", digits, input("x", "[1,1,4]", "FP32", "["+marker+",2,3,4]"), 422, "invalid", "inputs[0].shape"},
		{"wrong shape", digits, input("x", "[1,5]", "FP32", "["+marker+",2,3,4,5]"), 422, "invalid", "inputs[0].shape"},
		{"rank over the limit", digits, input("x", "[1,1,1,1,1,1,1,1,1,1,4]", "FP32", "["+marker+"]"), 422, "invalid", "inputs[0].shape[8]"},
		{"wrong datatype", digits, input("x", "[1,4]", "INT64", "[1,2,3,4]"), 422, "invalid", "inputs[0].datatype"},
		{"unknown datatype", digits, input("x", "[1,4]", "FLOAT", "["+marker+",2,3,4]"), 422, "invalid", "inputs[0].datatype"},
		{"too little data", digits, input("x", "[2,4]", "FP32", "["+marker+",2,3,4]"), 422, "invalid", "inputs[0].data"},
		{"too much data", digits, input("x", "[1,4]", "FP32", "["+marker+",2,3,4,5]"), 422, "invalid", "inputs[0].data"},
		{"negative dimension", digits, input("x", "[-1,4]", "FP32", "["+marker+",2,3,4]"), 422, "invalid", "inputs[0].shape"},
		{"huge dimension", digits, input("x", "[1099511627776,4]", "FP32", "["+marker+"]"), 422, "invalid", "inputs[0].shape"},
		{"dimension over 64 bits", digits, input("x", "[99999999999999999999,4]", "FP32", "["+marker+"]"), 422, "invalid", "inputs[0].shape[0]"},
		{"fractional dimension", digits, input("x", "[1.5,4]", "FP32", "["+marker+"]"), 422, "invalid", "inputs[0].shape[0]"},
		{"zero rows", digits, input("x", "[0,4]", "FP32", "[]"), 422, "invalid", "inputs[0].shape"},
		{"too many rows", digits, `{"input":[` + rows(4097) + `]}`, 422, "invalid", "input"},
		{"unknown input", digits, input("y", "[1,4]", "FP32", "["+marker+",2,3,4]"), 422, "invalid", "inputs[0].name"},
		{"missing input", wine, input("age", "[1]", "INT8", "[7]"), 422, "invalid", "inputs"},
		{"duplicate input", wine, `{"inputs":[{"name":"age","shape":[1],"datatype":"INT8","data":[7]},{"name":"age","shape":[1],"datatype":"INT8","data":[7]}]}`, 422, "invalid", "inputs[1].name"},
		{"rows that disagree", wine, `{"inputs":[{"name":"age","shape":[2],"datatype":"INT8","data":[7,7]},{"name":"name","shape":[1],"datatype":"BYTES","data":["a"]}]}`, 422, "invalid", "inputs[1].shape"},
		{"unknown output", digits, `{"input":[1,2,3,4],"outputs":[{"name":"` + long + `"}]}`, 422, "invalid", "outputs[0].name"},
		{"unknown output, short", digits, `{"input":[1,2,3,4],"outputs":[{"name":"nothing"}]}`, 422, "invalid", "outputs[0].name"},
		{"output twice", digits, `{"input":[1,2,3,4],"outputs":[{"name":"probabilities"},{"name":"probabilities"}]}`, 422, "invalid", "outputs[1].name"},

		{"NaN", digits, `{"input":[NaN,2,3,4]}`, 400, "malformed", ""},
		{"overflow of FP32", digits, `{"input":[1e39,2,3,4]}`, 422, "invalid", "input"},
		{"overflow of FP32 in the long form", digits, input("x", "[1,4]", "FP32", "[1e39,2,3,4]"), 422, "invalid", "inputs[0].data"},
		{"overflow of INT8", wine, `{"inputs":[{"name":"age","shape":[1],"datatype":"INT8","data":[128]},{"name":"name","shape":[1],"datatype":"BYTES","data":["a"]}]}`, 422, "invalid", "inputs[0].data"},
		{"fraction for an integer", grid, `{"input":[[1,2],[3,4.5]]}`, 422, "invalid", "input[1]"},
		{"null for a number", digits, `{"input":[null,2,3,4]}`, 422, "invalid", "input"},
		{"string for a number", digits, `{"input":["` + marker + `",2,3,4]}`, 422, "invalid", "input"},
		{"number for a string", text, `{"input":[` + marker + `]}`, 422, "invalid", "input"},
		{"ragged", digits, `{"input":[[1,2,3,4],[1,2,3]]}`, 422, "invalid", "input[1]"},
		{"row too short", digits, `{"input":[` + marker + `,2,3]}`, 422, "invalid", "input"},
		{"scalar", digits, `{"input":` + marker + `}`, 422, "invalid", "input"},
		{"empty array", digits, `{"input":[]}`, 422, "invalid", "input"},
		{"row of nothing", digits, `{"input":[[]]}`, 422, "invalid", "input"},
		{"zero rows in the short form", text, `{"input":[]}`, 422, "invalid", "input"},
		{"one row where nothing is batched", grid, `{"input":[1,2]}`, 422, "invalid", "input"},
		{"parameter of another kind", digits, `{"parameters":{"a":[1]},"input":[1,2,3,4]}`, 422, "invalid", "parameters.a"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			for _, route := range []string{"jobs", "predict"} {
				a := r.do(t, "POST", "/v1/models/"+c.model+"/"+route, c.body, "Content-Type", "application/json")
				a.problem(t, c.status, c.code)
				if got := a.str("field"); c.field != "" && got != c.field {
					t.Errorf("%s: field %q, expected %q\n%s", route, got, c.field, a.body)
				}
				if len(a.body) > 1024 || strings.Count(a.body, marker) > 1 || strings.Contains(a.body, long) {
					t.Errorf("%s: the input is echoed: %.3000s", route, a.body)
				}
			}
			if len(r.queue.waiting) != 0 {
				t.Error("a job was published")
			}
		})
	}
}

func TestProblemSaysWhatTheModelTakes(t *testing.T) {
	r := newRig(t, nil)
	a := r.call(t, "POST", "/v1/models/digits/predict", `{"input":[1,2,3]}`)
	a.problem(t, 422, "invalid")
	if !strings.Contains(a.body, `"expected":[{"name":"x","datatype":"FP32","shape":[-1,4]}]`) || a.str("instance") != "/v1/models/digits/predict" {
		t.Errorf("expected the model's input and the instance: %s", a.body)
	}
	if !strings.Contains(a.str("detail"), "[4]") || !strings.Contains(a.str("detail"), "[3]") {
		t.Errorf("expected the detail to say what was expected and found: %s", a.body)
	}
	a = r.call(t, "POST", "/v1/models/digits/predict", `{"input":[1,2,3,4],"outputs":[{"name":"no"}]}`)
	if !strings.Contains(a.body, `"expected":[{"name":"probabilities"`) {
		t.Errorf("expected the model's outputs: %s", a.body)
	}
}

func TestBodyTooLarge(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.MaxBodyBytes = 1000 })
	body := `{"input":[` + strings.Repeat("1,", 1000) + `1]}`
	r.do(t, "POST", "/v1/models/digits/jobs", body).problem(t, 413, "too-large")

	// Without a Content-Length the limit is met while reading.
	req, err := http.NewRequestWithContext(t.Context(), "POST", r.server.URL+"/v1/models/digits/jobs", struct{ *strings.Reader }{strings.NewReader(body)})
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp).problem(t, 413, "too-large")
}

func TestTruncatedBody(t *testing.T) {
	r := newRig(t, nil)
	addr := strings.TrimPrefix(r.listen(t), "http://")
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /v1/models/digits/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n%s", oneRow); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	a := read(t, resp)
	a.problem(t, 400, "malformed")
	if !strings.Contains(a.str("detail"), "expected 100 bytes") || len(r.queue.waiting) != 0 {
		t.Errorf("expected a refusal that says what is missing: %s", a.body)
	}
}

// A client that opens a body and does not send it is told so, and holds nothing for long.
func TestSlowBody(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.BodyTimeout = 20 * time.Millisecond })
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(r.listen(t), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /v1/models/digits/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	read(t, resp).problem(t, 408, "request-timeout")
}

func TestMediaTypes(t *testing.T) {
	r := newRig(t, nil)
	for value, ok := range map[string]bool{
		"": true, "application/json": true, "Application/JSON; charset=UTF-8": true, "application/vnd.x+json": true,
		"text/plain": false, "application/x-www-form-urlencoded": false, "application/json; charset=utf-16": false, "rubbish;;": false,
	} {
		a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Content-Type", value)
		if ok && a.status != 202 {
			t.Errorf("Content-Type %q: status %d, expected 202", value, a.status)
		}
		if !ok {
			a.problem(t, 415, "unsupported-media-type")
		}
	}
	r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Content-Encoding", "gzip").problem(t, 415, "unsupported-media-type")
}

func TestBadHeadersAndQueries(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		name, path, header, value string
		status                    int
		code, field               string
	}{
		{"deadline", "jobs", "Sheaf-Deadline", "soon", 400, "malformed", "Sheaf-Deadline"},
		{"deadline that has passed", "jobs", "Sheaf-Deadline", "2001-01-01T00:00:00Z", 422, "invalid", "Sheaf-Deadline"},
		{"key too long", "jobs", "Idempotency-Key", strings.Repeat("k", 256), 400, "malformed", "Idempotency-Key"},
		{"empty key", "jobs", "Idempotency-Key", `""`, 400, "malformed", "Idempotency-Key"},
		{"lane", "jobs?lane=fast", "X", "", 422, "invalid", "lane"},
		{"query", "jobs?lane=%zz", "X", "", 400, "malformed", "query"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := r.call(t, "POST", "/v1/models/digits/"+c.path, oneRow, c.header, c.value)
			a.problem(t, c.status, c.code)
			if a.str("field") != c.field {
				t.Errorf("field %q, expected %q", a.str("field"), c.field)
			}
		})
	}
}

// A shape is checked before anything is made for it.
func TestHugeShapeAllocatesNothing(t *testing.T) {
	r := newRig(t, nil)
	body := input("x", "[2147483647,4]", "FP32", "[1]")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a := r.call(t, "POST", "/v1/models/digits/jobs", body)
	runtime.ReadMemStats(&after)
	a.problem(t, 422, "invalid")
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 4<<20 {
		t.Errorf("%d bytes were allocated for a request of %d", grown, len(body))
	}
}

func FuzzSubmit(f *testing.F) {
	for _, body := range []string{
		oneRow, `{"input":[[1,2,3,4],[1,2,3,4]]}`, input("x", "[1,4]", "FP32", "[1,2,3,4]"), `{"input":["a"],"lane":"bulk"}`,
		`{"id":"7","parameters":{"a":1},"outputs":[{"name":"probabilities"}],"input":[1,2,3,4]}`, `{"input":[[1,2],[3,4]]}`,
		`{"inputs":[{"name":"age","shape":[1],"datatype":"INT8","data":[7]},{"name":"name","shape":[1],"datatype":"BYTES","data":["a"]}]}`,
		`{"input":[1e999,-0,1E-400,4]}`, `{"input":[[[[[[[[[1]]]]]]]]]}`, "{\"in\xffput\":1}", `{"lane":"","lane":1}`, `{"model_version":"1","input":[1,2,3,4]}`,
	} {
		for i := range 4 {
			f.Add(uint8(i), []byte(body))
		}
	}
	r := newRig(f, nil)
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		names := []string{"digits", "text", "wine.red", "grid"}
		a := r.call(t, "POST", "/v1/models/"+names[int(which)%len(names)]+"/jobs", string(body))
		switch {
		case a.status == http.StatusAccepted:
			ticket, err := job.ParseTicket(a.str("id"))
			if err != nil {
				t.Fatal(err)
			}
			if ok, err := r.queue.Remove(t.Context(), ticket); !ok || err != nil {
				t.Fatalf("accepted and not published: %v", err)
			}
		case a.status < 400 || a.status >= 500:
			t.Fatalf("status %d: %s", a.status, a.body)
		case a.str("type") == "" || len(a.body) > 4096:
			t.Fatalf("not a problem, or an echo: %.5000s", a.body)
		}
	})
}
