package httpapi_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// oipError verifies that the answer is an error as clients of the Open Inference Protocol read it, with the problem
// beside it.
func (a reply) oipError(t testing.TB, status int, code string) {
	t.Helper()
	if a.status != status || a.str("type") != "/problems/"+code || a.doc["status"] != float64(status) || a.str("title") == "" {
		t.Fatalf("status %d, type %q, expected %d and %q\n%s", a.status, a.str("type"), status, "/problems/"+code, a.body)
	}
	want := a.str("detail")
	if field := a.str("field"); field != "" {
		want = field + ": " + want
	}
	if got := a.str("error"); got != want || got == "" || !strings.HasPrefix(a.body, `{"error":"`) {
		t.Errorf("error %q, expected %q", got, want)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q, expected application/json", got)
	}
}

func TestOIPDocuments(t *testing.T) {
	r := newRig(t, func(c *config, _ *deps) { c.Version = "1.2.3" })
	r.models.Put(model.Info{ // of a worker that does not say what runs it
		Name: "plain", Version: "3", MaxRows: 1,
		Signature: model.Signature{
			Inputs:  []model.TensorSpec{{Name: "s", Datatype: job.Bytes, Shape: []int64{2, -1}}},
			Outputs: []model.TensorSpec{{Name: "n", Datatype: job.Int64}},
		},
	})
	const digits = `"platform":"onnxruntime_onnx","inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],` +
		`"outputs":[{"name":"probabilities","datatype":"FP32","shape":[-1,2]}]}`
	const digitsConfig = `{"name":"digits","platform":"onnxruntime_onnx","max_batch_size":64,` +
		`"input":[{"name":"x","data_type":"TYPE_FP32","dims":[4]}],"output":[{"name":"probabilities","data_type":"TYPE_FP32","dims":[2]}]}`
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/v2", `{"name":"sheaf","version":"1.2.3","extensions":["binary_tensor_data","schedule_policy","model_repository"]}`},
		{"GET", "/v2/health/live", `{"live":true}`},
		{"GET", "/v2/health/ready", `{"ready":true}`},
		{"GET", "/v2/models/digits/ready", `{"name":"digits","ready":true}`},
		{"GET", "/v2/models/digits/versions/1/ready", `{"name":"digits","ready":true}`},
		{"GET", "/v2/models/digits", `{"name":"digits","versions":["2","1"],` + digits},
		{"GET", "/v2/models/digits/versions/1", `{"name":"digits","versions":["2","1"],` + digits},
		{"GET", "/v2/models/plain", `{"name":"plain","versions":["3"],"platform":"onnxruntime_onnx",` +
			`"inputs":[{"name":"s","datatype":"BYTES","shape":[2,-1]}],"outputs":[{"name":"n","datatype":"INT64","shape":[]}]}`},
		{"GET", "/v2/models/digits/config", digitsConfig},
		{"GET", "/v2/models/digits/versions/1/config", digitsConfig},
		{"GET", "/v2/models/plain/versions/3/config", `{"name":"plain","platform":"onnxruntime_onnx","max_batch_size":0,` +
			`"input":[{"name":"s","data_type":"TYPE_STRING","dims":[2,-1]}],"output":[{"name":"n","data_type":"TYPE_INT64","dims":[]}]}`},
		{"POST", "/v2/repository/index", `[{"name":"digits","version":"2","state":"READY","reason":""},{"name":"digits","version":"1","state":"READY","reason":""},` +
			`{"name":"grid","version":"1","state":"READY","reason":""},{"name":"hasty","version":"1","state":"READY","reason":""},` +
			`{"name":"plain","version":"3","state":"READY","reason":""},{"name":"text","version":"1","state":"READY","reason":""},` +
			`{"name":"wine.red","version":"1","state":"READY","reason":""}]`},
	} {
		t.Run(c.path, func(t *testing.T) {
			for _, body := range []string{"", `{"ready":true}`} {
				if c.method == "GET" && body != "" {
					continue
				}
				status, header, got := r.raw(t, c.method, c.path, body)
				if status != 200 || header.Get("Content-Type") != "application/json" {
					t.Errorf("status %d, header %v", status, header)
				}
				if d := cmp.Diff(c.want+"\n", got); d != "" {
					t.Error(d)
				}
			}
			if c.method == "GET" {
				if status, header, got := r.raw(t, "HEAD", c.path, ""); status != 200 || got != "" || header.Get("Content-Type") == "" {
					t.Errorf("HEAD: status %d, header %v, body %q", status, header, got)
				}
			}
		})
	}
}

func TestOIPIndexOfNothing(t *testing.T) {
	r := newRig(t, func(_ *config, d *deps) { d.Models = model.NewCatalog() })
	if _, _, got := r.raw(t, "POST", "/v2/repository/index", ""); got != "[]\n" {
		t.Errorf("expected an empty list, got %q", got)
	}
}

func TestOIPErrors(t *testing.T) {
	r := newRig(t, nil)
	for _, c := range []struct {
		method, path string
		status       int
		code, allow  string
	}{
		{"GET", "/v2/models/nobody", 404, "unknown-model", ""},
		{"GET", "/v2/models/nobody/ready", 404, "unknown-model", ""},
		{"GET", "/v2/models/nobody/config", 404, "unknown-model", ""},
		{"GET", "/v2/models/digits/versions/9", 404, "unknown-model", ""},
		{"GET", "/v2/models/digits/versions/9/ready", 404, "unknown-model", ""},
		{"GET", "/v2/models/digits/versions/9/config", 404, "unknown-model", ""},
		{"GET", "/v2/models/digits/stats", 404, "not-found", ""},
		{"GET", "/v2/models/digits/versions/1/stats", 404, "not-found", ""},
		{"GET", "/v2/nothing", 404, "not-found", ""},
		{"POST", "/v2/repository/models/digits/load", 400, "unsupported", ""},
		{"POST", "/v2/repository/models/digits/unload", 400, "unsupported", ""},
		{"POST", "/v2", 405, "method-not-allowed", "GET, HEAD"},
		{"POST", "/v2/models/digits", 405, "method-not-allowed", "GET, HEAD"},
		{"PUT", "/v2/health/ready", 405, "method-not-allowed", "GET, HEAD"},
		{"GET", "/v2/models/digits/infer", 405, "method-not-allowed", "POST"},
		{"HEAD", "/v2/models/digits/versions/1/infer", 405, "", "POST"},
		{"GET", "/v2/repository/index", 405, "method-not-allowed", "POST"},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			a := r.do(t, c.method, c.path, "")
			if c.method == "HEAD" {
				if a.status != c.status {
					t.Errorf("status %d, expected %d", a.status, c.status)
				}
			} else {
				a.oipError(t, c.status, c.code)
			}
			if got := a.header.Get("Allow"); got != c.allow {
				t.Errorf("Allow %q, expected %q", got, c.allow)
			}
		})
	}
	// What is not under /v2 is told as before.
	r.do(t, "GET", "/v22", "").problem(t, 404, "not-found")
}

// The server is ready by the same truth as /readyz, and alive all the same.
func TestOIPNotReady(t *testing.T) {
	r := newRig(t, func(_ *config, d *deps) {
		d.Ready = []gateway.Check{{Name: "queue", Run: func(context.Context) error { return errors.New("NATS is out of reach") }}}
	})
	a := r.do(t, "GET", "/v2/health/ready", "")
	a.oipError(t, 503, "unavailable")
	if a.header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After %q, expected 1", a.header.Get("Retry-After"))
	}
	if a := r.do(t, "GET", "/readyz", ""); a.status != 503 {
		t.Errorf("/readyz: status %d", a.status)
	}
	if a := r.do(t, "GET", "/v2/health/live", ""); a.status != 200 {
		t.Errorf("status %d of what lives", a.status)
	}
}

func TestOIPNotReadyOnTheWayDown(t *testing.T) {
	r := newRig(t, nil)
	r.jobs.Close()
	r.do(t, "GET", "/v2/health/ready", "").oipError(t, 503, "unavailable")
}

func TestOIPPanic(t *testing.T) {
	r := newRig(t, func(_ *config, d *deps) { d.Submitter = panics{} })
	r.do(t, "POST", "/v2/models/digits/infer", input("x", "[1,4]", "FP32", "[1,2,3,4]")).oipError(t, 500, "internal")
}

// raw sends a request over a real connection and returns the answer as it is.
func (r *rig) raw(t testing.TB, method, path, body string, header ...string) (status int, h http.Header, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.listen(t)+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	resp, err := r.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(b)
}
