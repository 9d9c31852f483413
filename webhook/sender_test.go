package webhook_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/webhook"
)

// verifier is the reference implementation, with the tenant's secret.
func (r *rig) verifier(tenant string) *standardwebhooks.Webhook {
	r.t.Helper()
	secret, err := r.secrets.Secret(r.t.Context(), tenant)
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func TestDelivered(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rc := receive(t, nil)
	r.start()
	at := time.UnixMilli(1_750_000_000_123)
	ticket := r.finish(rc.URL+"/hook?x=1", func(r *job.Result) { r.Tenant, r.State, r.FinishedAt = "acme.eu", job.Canceled, at })
	req := rc.await(t, 1)[0]
	if err := r.verifier("acme.eu").Verify(req.body, req.header); err != nil {
		t.Errorf("the reference implementation refuses the signature: %v", err)
	}
	if err := r.verifier("other").Verify(req.body, req.header); err == nil {
		t.Error("another tenant's secret signs the same")
	}
	if err := r.verifier("acme.eu").Verify(append(req.body, ' '), req.header); err == nil {
		t.Error("the body is not signed")
	}
	// A receiver that is sent a recorded request later refuses it by its time, which is signed too.
	old := req.header.Clone()
	old.Set(webhook.HeaderTimestamp, "1600000000")
	if err := r.verifier("acme.eu").Verify(req.body, old); err == nil {
		t.Error("a replay with an old time is accepted")
	}
	if err := r.verifier("acme.eu").VerifyIgnoringTimestamp(req.body, old); err == nil {
		t.Error("the time is not signed")
	}
	want := `{"type":"job.canceled","timestamp":"2025-06-15T15:06:40.123Z","data":{"id":"` + ticket.String() + `"}}`
	if string(req.body) != want {
		t.Errorf("got %s, expected %s", req.body, want)
	}
	if id := req.header.Get("webhook-id"); id != ticket.ID.String()+"_1750000000123" || strings.Contains(id, ".") {
		t.Errorf("webhook-id %q", id)
	}
	if req.header.Get("Content-Type") != "application/json" || req.header.Get("User-Agent") != "sheaf" || req.header.Get("Accept-Encoding") != "" {
		t.Errorf("headers %v", req.header)
	}
	r.awaitEmpty()
	if n := len(rc.requests()); n != 1 || len(r.givenUp()) != 0 {
		t.Errorf("%d requests, given up %v", n, r.givenUp())
	}
}

// A receiver that fails is tried again with growing pauses, under the same webhook-id and a time of its own.
func TestRetried(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rc := receive(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader([]int{500, 404, 302, 204}[n])
	})
	r.start()
	r.finish(rc.URL, nil)
	r.awaitEmpty()
	all := rc.requests()
	if len(all) != 4 {
		t.Fatalf("%d attempts, expected 4", len(all))
	}
	v := r.verifier(job.DefaultTenant)
	for i, req := range all {
		if id := req.header.Get("webhook-id"); id != all[0].header.Get("webhook-id") || string(req.body) != string(all[0].body) {
			t.Errorf("attempt %d: webhook-id %q, body %s", i+1, id, req.body)
		}
		if err := v.Verify(req.body, req.header); err != nil {
			t.Errorf("attempt %d: %v", i+1, err)
		}
		if i > 0 && req.at.Sub(all[i-1].at) < r.cfg.Schedule[i-1] {
			t.Errorf("attempt %d comes after %v, expected at least %v", i+1, req.at.Sub(all[i-1].at), r.cfg.Schedule[i-1])
		}
	}
	if len(r.givenUp()) != 0 {
		t.Errorf("given up: %v", r.givenUp())
	}
}

func TestGivenUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		answer   http.HandlerFunc
		attempts int
		reason   string
	}{
		{"always fails", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }, 4, "answers 503"},
		{"410 is the last word", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(410) }, 1, "410"},
		{"redirects are not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, 4, "redirects are not followed"},
		{"no answer", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 4, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.cfg.Schedule = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond}
			rc := receive(t, func(_ int, w http.ResponseWriter, req *http.Request) {
				if req.URL.Path != "/hook" {
					t.Errorf("a redirect was followed to %s", req.URL.Path)
				}
				tt.answer(w, req)
			})
			r.start()
			r.finish(rc.URL+"/hook?key=secret-of-the-receiver", nil)
			r.wantGivenUp(tt.attempts, tt.reason)
			if n := len(rc.requests()); n != tt.attempts {
				t.Errorf("%d requests", n)
			}
			if log := r.log.String(); !strings.Contains(log, "given up") || strings.Contains(log, "secret-of-the-receiver") || strings.Contains(r.givenUp()[0].Reason, "secret-of") {
				t.Errorf("the log: %s", log)
			}
		})
	}
}

// A slow receiver holds up nobody else, nor does a tenant who has many.
func TestSlowReceiverHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.Concurrency, r.cfg.PerTenant, r.cfg.PerHost = 4, 3, 2
	hold := make(chan struct{})
	stuck := func(_ int, _ http.ResponseWriter, req *http.Request) {
		select {
		case <-hold:
		case <-req.Context().Done():
		}
	}
	slow, slower := receive(t, stuck), receive(t, stuck)
	quick := receive(t, nil)
	r.start()
	for range 10 {
		r.finish(slow.URL, nil)
	}
	slow.await(t, 2)
	r.finish(quick.URL, nil) // of the same tenant, at another host
	quick.await(t, 1)
	for range 10 {
		r.finish(slower.URL, nil)
	}
	slower.await(t, 1)
	r.finish(quick.URL, func(r *job.Result) { r.Tenant = "other" })
	quick.await(t, 2)
	if n, m := len(slow.requests()), len(slower.requests()); n != 2 || m != 1 {
		t.Errorf("%d and %d attempts are made at a time, expected 2 at a host and 3 of a tenant", n, m)
	}
	close(hold)
	r.awaitEmpty()
	if n, m := len(slow.requests()), len(slower.requests()); n != 10 || m != 10 {
		t.Errorf("%d and %d deliveries in the end", n, m)
	}
}

// The sender dies in the middle of an attempt: another one delivers.
func TestSenderDiesInTheMiddle(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	block := make(chan struct{})
	defer close(block)
	rc := receive(t, func(n int, _ http.ResponseWriter, req *http.Request) {
		if n == 0 {
			select {
			case <-block:
			case <-req.Context().Done():
			}
		}
	})
	// A sender that took the delivery and is never heard of again.
	dead, err := r.queue.Webhooks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r.finish(rc.URL, nil)
	var held *queue.WebhookDelivery
	eventually(t, "the first sender takes it", func() bool {
		if err := dead.Fetch(t.Context(), 1, time.Second, func(d *queue.WebhookDelivery) { held = d }); err != nil {
			t.Fatal(err)
		}
		return held != nil
	})
	// Another is stopped while the receiver thinks.
	stop := r.start()
	rc.await(t, 1)
	stop()
	r.start()
	rc.await(t, 2)
	r.awaitEmpty()
	if a, b := rc.requests()[0], rc.requests()[1]; a.header.Get("webhook-id") != b.header.Get("webhook-id") {
		t.Error("the second attempt has another webhook-id")
	}
}

func TestRecordIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	r.queueUp(queue.Webhook{Ticket: job.Ticket{ID: id}, Tenant: "default", Host: "example.com"})
	r.awaitEmpty()
	eventually(t, "it is logged", func() bool { return strings.Contains(r.log.String(), "result of its job is gone") })
	if len(r.givenUp()) != 0 {
		t.Errorf("given up: %v", r.givenUp())
	}
}

func TestLargeOutputsAreLeftOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.MaxPayload = 8 << 10
	rc := receive(t, nil)
	r.start()
	r.finish(rc.URL, func(r *job.Result) {
		r.Outputs = []job.Tensor{{Name: "y", Datatype: job.Uint8, Shape: []int64{9000}, Data: make([]byte, 9000)}}
	})
	var body struct {
		Data struct {
			Omitted bool `json:"outputs_omitted"`
		} `json:"data"`
	}
	if raw := rc.await(t, 1)[0].body; json.Unmarshal(raw, &body) != nil || !body.Data.Omitted {
		t.Errorf("got %s", raw)
	}
}

// A rotated secret and the new one both sign.
func TestRotation(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rc := receive(t, nil)
	old := r.verifier(job.DefaultTenant)
	before, err := r.secrets.Secret(t.Context(), job.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	after, err := webhook.NewSecrets(r.queue.Bucket(webhook.BucketName), time.Hour).Rotate(t.Context(), job.DefaultTenant)
	if err != nil {
		t.Fatal(err)
	}
	if now, err := r.secrets.Secret(t.Context(), job.DefaultTenant); err != nil || now != after || now == before || !strings.HasPrefix(now, "whsec_") {
		t.Errorf("the secret is %q, %v", now, err)
	}
	r.start()
	r.finish(rc.URL, nil)
	req := rc.await(t, 1)[0]
	for name, v := range map[string]*standardwebhooks.Webhook{"old": old, "new": r.verifier(job.DefaultTenant)} {
		if err := v.Verify(req.body, req.header); err != nil {
			t.Errorf("the %s secret: %v", name, err)
		}
	}
	// When the overlap is over only the new one does.
	brief := webhook.NewSecrets(r.queue.Bucket(webhook.BucketName), time.Nanosecond)
	for range 2 {
		if _, err := brief.Rotate(t.Context(), "brief"); err != nil {
			t.Fatal(err)
		}
	}
	r.finish(rc.URL, func(r *job.Result) { r.Tenant = "brief" })
	if s := rc.await(t, 2)[1].header.Get(webhook.HeaderSignature); strings.Count(s, "v1,") != 1 {
		t.Errorf("signed %q, expected one signature", s)
	}
}

// A receiver's Retry-After puts the next attempt off.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.RetryAfterMax = 300 * time.Millisecond
	rc := receive(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 0 {
			w.Header().Set("Retry-After", "3600")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	})
	r.start()
	r.finish(rc.URL, nil)
	all := rc.await(t, 2)
	if pause := all[1].at.Sub(all[0].at); pause < r.cfg.RetryAfterMax {
		t.Errorf("tried again after %v, expected the bound of Retry-After, %v", pause, r.cfg.RetryAfterMax)
	}
	r.awaitEmpty()
}

// An answer that never ends costs the time of one attempt, and is a success: its status came.
func TestAnswerIsReadBounded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.Timeout = 5 * time.Second
	rc := receive(t, func(_ int, w http.ResponseWriter, req *http.Request) {
		chunk := make([]byte, 4096)
		for req.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	})
	r.start()
	start := time.Now()
	r.finish(rc.URL, nil)
	r.awaitEmpty()
	if took := time.Since(start); took > r.cfg.Timeout {
		t.Errorf("it took %v", took)
	}
	if len(rc.requests()) != 1 || len(r.givenUp()) != 0 {
		t.Errorf("%d requests, given up %v", len(rc.requests()), r.givenUp())
	}
}

// Over TLS, with an authority of the operator's own; without it the receiver is not believed.
func TestTLS(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.cfg.AllowHTTP = false
	r.cfg.Schedule = []time.Duration{time.Millisecond}
	rc := &receiver{}
	rc.Server = httptest.NewTLSServer(rc.handler(nil))
	t.Cleanup(rc.Close)
	rc.Config.ErrorLog = nil
	stop := r.start()
	r.finish(rc.URL, nil)
	r.wantGivenUp(2, "certificate")
	stop()
	r.deps.Roots = rc.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	r.start()
	r.finish(rc.URL, nil)
	rc.await(t, 1)
	r.finish(strings.Replace(rc.URL, "https", "http", 1), nil)
	r.awaitEmpty()
	if list := r.givenUp(); len(list) != 2 || list[1].Attempts != 0 || !strings.Contains(list[1].Reason, "https") {
		t.Errorf("given up: %+v", list)
	}
}
