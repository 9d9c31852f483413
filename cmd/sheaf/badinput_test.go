package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// row64 is the JSON of one digits row, with the last value as given.
func row64(last string) string { return "[" + strings.Repeat("1,", 63) + last + "]" }

func inputs(name, datatype, shape, data string) string {
	return fmt.Sprintf(`{"inputs":[{"name":%q,"datatype":%q,"shape":%s,"data":%s}]}`, name, datatype, shape, data)
}

// badBodies are requests that no model can answer, with the status and the field of the problem.
var badBodies = []struct {
	name, body string
	status     int
	field      string // must appear in the problem
}{
	{"malformed JSON", `{"input": [1,2,`, 400, "byte 15"},
	{"not an object", `42`, 422, "object"},
	{"empty body", ``, 400, ""},
	{"truncated body", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,64],"data":[1,2`, 400, ""},
	{"no input at all", `{}`, 422, "inputs"},
	{"wrong rank", inputs("x", "FP32", "[64]", row64("1")), 422, "shape"},
	{"rank far too high", inputs("x", "FP32", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,64]", row64("1")), 422, "shape"},
	{"wrong shape", inputs("x", "FP32", "[1,63]", "["+strings.Repeat("1,", 62)+"1]"), 422, "shape"},
	{"wrong shape of input", `{"input":[1,2,3]}`, 422, "64"},
	{"ragged input", `{"input":[[1,2],[1]]}`, 422, "input"},
	{"wrong datatype", inputs("x", "INT64", "[1,64]", row64("1")), 422, "datatype"},
	{"unknown datatype", inputs("x", "FLOAT", "[1,64]", row64("1")), 422, "datatype"},
	{"less data than shape", inputs("x", "FP32", "[2,64]", row64("1")), 422, "data"},
	{"more data than shape", inputs("x", "FP32", "[1,64]", "["+strings.Repeat("1,", 64)+"1]"), 422, "data"},
	{"NaN", inputs("x", "FP32", "[1,64]", row64("NaN")), 400, ""},
	{"null", inputs("x", "FP32", "[1,64]", row64("null")), 422, "data"},
	{"overflow", inputs("x", "FP32", "[1,64]", row64("1e39")), 422, "data"},
	{"overflow of input", `{"input":` + row64("-1e300") + `}`, 422, "input"},
	{"negative dimension", inputs("x", "FP32", "[-1,64]", row64("1")), 422, "shape"},
	{"huge dimension", inputs("x", "FP32", "[9223372036854775807,64]", row64("1")), 422, "shape"},
	{"huge product", inputs("x", "FP32", "[4294967296,4294967296]", row64("1")), 422, "shape"},
	{"zero rows", inputs("x", "FP32", "[0,64]", "[]"), 422, "row"},
	{"zero rows of input", `{"input":[]}`, 422, "input"},
	{"too many rows", inputs("x", "FP32", "[5000,64]", "["+strings.Repeat("1,", 5000*64-1)+"1]"), 422, "rows"},
	{"non-UTF-8", "{\"id\":\"\xff\xfe\",\"input\":" + row64("1") + "}", 400, "UTF-8"},
	{"string for a number", inputs("x", "FP32", "[1,64]", row64(`"1"`)), 422, "data"},
	{"missing name", `{"inputs":[{"datatype":"FP32","shape":[1,64],"data":` + row64("1") + `}]}`, 422, "name"},
	{"unknown input", inputs("y", "FP32", "[1,64]", row64("1")), 422, "inputs"},
	{"duplicate input", `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,64],"data":` + row64("1") +
		`},{"name":"x","datatype":"FP32","shape":[1,64],"data":` + row64("1") + `}]}`, 422, "inputs"},
	{"unknown output", `{"input":` + row64("1") + `,"outputs":[{"name":"nonsense"}]}`, 422, "outputs"},
	{"both forms", `{"input":` + row64("1") + "," + inputs("x", "FP32", "[1,64]", row64("1"))[1:], 422, "input"},
	{"both forms, one empty", `{"input":` + row64("1") + `,"inputs":[]}`, 422, "input"},
	{"deep nesting", `{"input":` + strings.Repeat("[", 100_000), 400, ""},
	{"body too large", `{"input":[` + strings.Repeat("1.00000000000000000000,", 1<<19) + `1]}`, 413, ""},
}

func TestBadInputOverHTTP(t *testing.T) {
	t.Parallel()
	p := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0")
	url := p.find(`HTTP API +(\S+)`)
	header := http.Header{"Content-Type": {"application/json"}}
	check := func(t *testing.T, status int, field string, code int, body []byte) {
		t.Helper()
		if code != status || !bytes.Contains(body, []byte(`"detail"`)) || !bytes.Contains(body, []byte(field)) {
			t.Errorf("expected %d and a problem that names %q, got %d: %.300s", status, field, code, body)
		}
		if len(body) > 2048 {
			t.Errorf("the problem has %d bytes: it repeats the input", len(body))
		}
	}
	for _, route := range []string{"jobs", "predict"} {
		for _, c := range badBodies {
			t.Run(route+"/"+c.name, func(t *testing.T) {
				code, body := request(t, http.MethodPost, url+"/v1/models/digits/"+route, []byte(c.body), header)
				check(t, c.status, c.field, code, body)
			})
		}
		t.Run(route+"/unknown model", func(t *testing.T) {
			code, body := request(t, http.MethodPost, url+"/v1/models/nonsense/"+route, []byte(`{"input":`+row64("1")+`}`), header)
			check(t, 404, "model", code, body)
		})
	}
	for name, id := range map[string]string{
		"unknown job":    "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11",
		"unknown ticket": "0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-3",
		"not an id":      "..%2f..%2fetc",
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodDelete} {
				code, body := request(t, method, url+"/v1/jobs/"+id, nil, nil)
				if code != 404 && code != 400 {
					t.Errorf("%s answered %d: %s", method, code, body)
				}
			}
		})
	}
	// After all of it, a right request gets its right answer.
	row := heldout(t, "digits")[0]
	code, body := post(t, url+"/v1/models/digits/predict", map[string]any{"input": row.Input})
	if code != http.StatusOK {
		t.Fatalf("a right request was answered %d: %s", code, body)
	}
}

// The same garbage, published straight to NATS: each job gets a failed record, and the worker goes on.
func TestBadInputOverNATS(t *testing.T) {
	t.Parallel()
	s := newStack(t, 1, 1)
	cfg := resultstore.DefaultConfig()
	cfg.URL = s.redis
	store, err := resultstore.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()

	want := map[string]job.ID{}
	publish := func(name, contentType, body string) {
		id, err := job.NewID()
		if err != nil {
			t.Fatal(err)
		}
		want[name] = id
		testserver.Publish(t, s.nats, "sheaf.interactive.digits.default",
			map[string]string{job.HeaderID: id.String(), job.HeaderContentType: contentType}, []byte(body))
	}
	for _, c := range badBodies {
		if c.status == http.StatusRequestEntityTooLarge || strings.Contains(c.body, `"input":`) {
			continue // the shorthand is the HTTP API's alone, and the server refuses what is over its limit
		}
		publish("JSON, "+c.name, job.ContentTypeJSON, c.body)
		publish("JSON as protobuf, "+c.name, job.ContentTypeProtobuf, c.body)
		publish("JSON as sheaf, "+c.name, job.ContentTypeSheaf, c.body)
	}
	publish("unknown content type", "text/plain", "hello")
	publish("no content type", "", "\x00\x01\x02")
	testserver.Publish(t, s.nats, "sheaf.interactive.digits.default", nil, []byte("no id at all"))

	// A right job behind all of it, by the wire contract.
	row := heldout(t, "digits")[0]
	good, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	testserver.Publish(t, s.nats, "sheaf.interactive.digits.default",
		map[string]string{job.HeaderID: good.String(), job.HeaderContentType: job.ContentTypeJSON},
		[]byte(inputs("x", "FP32", "[1,64]", strings.ReplaceAll(fmt.Sprint(row.Input), " ", ","))))

	record := func(id job.ID) (r job.Result) {
		eventually(t, func() error {
			records, err := store.Get(t.Context(), id)
			if err != nil {
				return err
			}
			if records[0] == nil {
				return fmt.Errorf("job %s has no record", id)
			}
			r, err = job.DecodeRecord(id, records[0])
			return err
		})
		return r
	}
	if r := record(good); r.State != job.Succeeded {
		t.Errorf("the right job %s: %v", r.State, r.Error)
	} else if err := sameProbabilities(floats(r.Outputs[0].Data), row.Probabilities); err != nil {
		t.Error(err)
	}
	for name, id := range want {
		if r := record(id); r.State != job.Failed || r.Error == nil || r.Error.Detail == "" {
			t.Errorf("%s: %s, %v; expected a failed record that says why", name, r.State, r.Error)
		}
	}
}
