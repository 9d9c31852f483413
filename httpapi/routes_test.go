package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
)

func TestUnknownRoutesAndMethods(t *testing.T) {
	r := newRig(t, nil)
	for _, path := range []string{"/nothing", "/v1/models/", "/v1/jobs", "/v1/models/digits/predict/", "/problems/nothing"} {
		r.do(t, "GET", path, "").problem(t, 404, "not-found")
	}
	for _, c := range []struct{ method, path, allow string }{
		{"GET", "/v1/models/digits/jobs", "POST"},
		{"PUT", "/v1/jobs/x", "DELETE, GET, HEAD"},
		{"POST", "/v1/models", "GET, HEAD"},
		{"OPTIONS", "/v1/models/digits/predict", "POST"},
		{"BREW", "/healthz", "GET, HEAD"},
		{"POST", "/", "GET, HEAD"},
	} {
		a := r.do(t, c.method, c.path, "")
		a.problem(t, 405, "method-not-allowed")
		if a.header.Get("Allow") != c.allow {
			t.Errorf("%s %s: Allow %q, expected %q", c.method, c.path, a.header.Get("Allow"), c.allow)
		}
	}
}

func TestHead(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/digits", "/v1/jobs/" + ticket.String()} {
		a := r.do(t, "HEAD", path, "")
		if a.status != 200 || a.body != "" || a.header.Get("Content-Type") == "" {
			t.Errorf("HEAD %s: status %d, header %v, body %q", path, a.status, a.header, a.body)
		}
	}
}

func TestEveryProblemIsExplained(t *testing.T) {
	r := newRig(t, nil)
	for code, status := range map[string]string{
		"malformed": "400", "invalid": "422", "too-large": "413", "unknown-model": "404", "inference": "422", "exhausted": "500",
		"expired": "504", "canceled": "409", "internal": "500", "not-found": "404", "method-not-allowed": "405",
		"unsupported-media-type": "415", "request-timeout": "408", "unknown-job": "404", "finished": "409", "tenant-full": "429", "rate-limited": "429", "unauthorized": "401", "forbidden": "403",
		"full": "503", "busy": "503", "overloaded": "503", "unavailable": "503", "too-many-waiters": "503", "timeout": "504", "unsupported": "400",
	} {
		a := r.do(t, "GET", "/problems/"+code, "")
		if a.status != 200 || !strings.Contains(a.body, "("+status+" ") || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: status %d: %s", code, a.status, a.body)
		}
	}
}

func TestIndex(t *testing.T) {
	r := newRig(t, nil)
	a := r.do(t, "GET", "/", "")
	for _, want := range []string{"/v1/models/{model}/predict", "/v1/jobs/{id}", "/metrics"} {
		if !strings.Contains(a.body, want) {
			t.Errorf("the index lacks %s", want)
		}
	}
}

func TestModels(t *testing.T) {
	r := newRig(t, nil)
	var names []string
	list, _ := r.do(t, "GET", "/v1/models", "").doc["models"].([]any)
	for _, m := range list {
		names = append(names, m.(map[string]any)["name"].(string)+"/"+m.(map[string]any)["version"].(string))
	}
	if d := cmp.Diff([]string{"digits/2", "digits/1", "grid/1", "hasty/1", "text/1", "wine.red/1"}, names); d != "" {
		t.Error(d)
	}
	a := r.do(t, "GET", "/v1/models/digits", "")
	want := map[string]any{
		"name": "digits", "version": "2", "versions": []any{"2", "1"}, "description": "handwritten digits", "platform": "onnxruntime_onnx",
		"inputs":    []any{map[string]any{"name": "x", "datatype": "FP32", "shape": []any{-1.0, 4.0}}},
		"outputs":   []any{map[string]any{"name": "probabilities", "datatype": "FP32", "shape": []any{-1.0, 2.0}}},
		"batchable": true, "max_rows": 64.0, "prediction": "probabilities", "deadline_ms": 300000.0, "result_ttl_ms": 3600000.0,
		"limits": map[string]any{"max_body_bytes": 8388608.0, "max_rows": 4096.0, "max_elements": 8388608.0, "max_rank": 8.0, "max_tensors": 64.0},
	}
	if d := cmp.Diff(want, a.doc); d != "" {
		t.Error(d)
	}
	var signature model.Signature // clients in Go read it so
	if err := json.Unmarshal([]byte(a.body), &signature); err != nil || signature.Inputs[0].String() != "x FP32 [-1,4]" {
		t.Errorf("%v: %+v", err, signature)
	}
	if a := r.do(t, "GET", "/v1/models/digits/versions/1", ""); a.str("version") != "1" {
		t.Error(a.body)
	}
	if a := r.do(t, "GET", "/v1/models/wine.red", ""); a.str("prediction") != "label" {
		t.Error(a.body)
	}
	r.do(t, "GET", "/v1/models/nobody", "").problem(t, 404, "unknown-model")
	r.do(t, "GET", "/v1/models/digits/versions/3", "").problem(t, 404, "unknown-model")
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down error
		asked := 0
		r := newRig(t, func(_ *config, d *deps) {
			d.Ready = []gateway.Check{
				{Name: "queue", Run: func(context.Context) error { asked++; return down }},
				{Name: "results", Run: func(ctx context.Context) error { return ctx.Err() }},
			}
		})
		checks := func(a reply) map[string]any { m, _ := a.doc["checks"].(map[string]any); return m }
		a := r.call(t, "GET", "/readyz", "")
		if a.status != 200 || a.str("status") != "ready" || checks(a)["queue"] != "ok" || checks(a)["results"] != "ok" {
			t.Errorf("status %d: %s", a.status, a.body)
		}
		down = errors.New("NATS is out of reach")
		if a = r.call(t, "GET", "/readyz", ""); a.status != 200 || asked != 1 {
			t.Errorf("status %d after %d checks, expected the answer to stand for a moment", a.status, asked)
		}
		<-time.After(time.Second)
		a = r.call(t, "GET", "/readyz", "")
		if a.status != 503 || a.str("status") != "unready" || checks(a)["queue"] != down.Error() || checks(a)["results"] != "ok" {
			t.Errorf("status %d: %s", a.status, a.body)
		}
		if a = r.call(t, "GET", "/healthz", ""); a.status != 200 || a.str("status") != "ok" {
			t.Errorf("status %d: %s", a.status, a.body)
		}
		down = nil
		<-time.After(time.Second)
		if a = r.call(t, "GET", "/readyz", ""); a.status != 200 {
			t.Errorf("status %d after the fault was gone: %s", a.status, a.body)
		}
		r.jobs.Close()
		if a = r.call(t, "GET", "/readyz", ""); a.status != 503 || checks(a)["server"] != "going down" {
			t.Errorf("status %d after Close: %s", a.status, a.body)
		}
	})
}

func TestCheckThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(_ *config, d *deps) {
			d.Ready = []gateway.Check{{Name: "results", Run: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}}
		})
		start := time.Now()
		if a := r.call(t, "GET", "/readyz", ""); a.status != 503 || time.Since(start) > 2*time.Second {
			t.Errorf("status %d after %s", a.status, time.Since(start))
		}
	})
}

// panics panics at every submit.
type panics struct{ gateway.Submitter }

func (panics) Submit(context.Context, producer.Request) (producer.Submission, error) {
	panic("a defect")
}

func TestPanic(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(_ *config, d *deps) {
		d.Submitter = panics{}
		d.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	a := r.do(t, "POST", "/v1/models/digits/predict", oneRow)
	a.problem(t, 500, "internal")
	if strings.Contains(a.body, "defect") || !strings.Contains(log.String(), "a defect") || !strings.Contains(log.String(), "routes_test.go") {
		t.Errorf("expected the panic and its place in the log and not in the answer %s: %s", a.body, log.String())
	}
	if a := r.do(t, "GET", "/healthz", ""); a.status != 200 {
		t.Error("the process does not answer any more")
	}
	if m := r.do(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_http_requests_total{method="POST",route="/v1/models/{model}/predict",status="5xx"} 1`) || !strings.Contains(m.body, "sheaf_gateway_waiters 0") {
		t.Error("the panic was not counted, or it keeps its seat")
	}
}

func TestMetricsHaveFewLabels(t *testing.T) {
	r := newRig(t, nil)
	for _, name := range []string{"evil-1", "evil-2"} {
		r.do(t, "POST", "/v1/models/"+name+"/jobs", oneRow)
		r.do(t, "GET", "/"+name, "")
		r.do(t, "GET", "/v1/jobs/"+name, "")
		r.do(t, strings.ToUpper(name), "/healthz", "")
	}
	r.submit(t)
	m := r.do(t, "GET", "/metrics", "").body
	if strings.Contains(strings.ToLower(m), "evil") {
		t.Error("a label has what a client sent")
	}
	for _, want := range []string{
		`sheaf_http_requests_total{method="GET",route="none",status="4xx"} 2`,
		`sheaf_http_requests_total{method="other",route="/healthz",status="4xx"} 2`,
		`sheaf_http_request_seconds_count{method="POST",route="/v1/models/{model}/jobs"} 3`,
		`sheaf_gateway_submits_total{outcome="unknown_model"} 2`,
		`sheaf_gateway_submits_total{outcome="accepted"} 1`,
	} {
		if !strings.Contains(m, want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
}

func TestRequestLog(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(_ *config, d *deps) {
		d.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	ticket := r.submit(t)
	want := "method=POST route=/v1/models/{model}/jobs status=202"
	if s := log.String(); !strings.Contains(s, want) || !strings.Contains(s, "job="+ticket.String()) || !strings.Contains(s, "took=") {
		t.Errorf("expected %s and the job: %s", want, s)
	}
}

func TestSettings(t *testing.T) {
	r := newRig(t, nil)
	cfg := defaultConfig()
	cfg.MaxBodyBytes, cfg.PredictTimeout, cfg.MaxWait, cfg.MaxWaiters = 0, -1, -1, 0
	_, err := httpapi.New(cfg.httpConfig, httpapi.Deps{})
	for _, want := range []string{"MaxBodyBytes", "PredictTimeout", "Jobs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %s to be named: %v", want, err)
		}
	}
	_, err = gateway.New(cfg.jobsConfig, gateway.Deps{Models: r.models, Ready: []gateway.Check{{}}})
	for _, want := range []string{"MaxWait", "MaxWaiters", "Submitter", "Results", "Queue", "check 0"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("expected %s to be named: %v", want, err)
		}
	}
	if _, err := gateway.New(gateway.DefaultConfig(), r.deps.jobsDeps); err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("expected metrics that are registered twice to be refused: %v", err)
	}
	if _, err := httpapi.New(httpapi.DefaultConfig(), httpapi.Deps{Jobs: r.jobs, Registerer: r.reg}); err == nil || !strings.Contains(err.Error(), "metrics") {
		t.Errorf("expected metrics that are registered twice to be refused: %v", err)
	}
}

func TestServerOutlastsTheWaits(t *testing.T) {
	var cfg *config
	r := newRig(t, func(c *config, _ *deps) {
		c.MaxWait, c.PredictTimeout = 10*time.Minute, 20*time.Minute
		cfg = c
	})
	s := r.api.Server()
	if s.WriteTimeout <= cfg.PredictTimeout || s.ReadTimeout <= cfg.PredictTimeout {
		t.Errorf("WriteTimeout %s, ReadTimeout %s: a wait of %s would be cut", s.WriteTimeout, s.ReadTimeout, cfg.PredictTimeout)
	}
	if s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > time.Minute || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("a slow client is not bounded: %+v", s)
	}
}
