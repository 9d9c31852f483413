package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// hookArgs let a shim call receivers of tests, and take over soon what a dead one was about to deliver.
func hookArgs(more ...string) []string {
	return append([]string{
		"--webhook-allow-http", "--webhook-allow-networks", "127.0.0.0/8", "--webhook-timeout", "1s", "--webhook-ack-wait", "2s",
		"--webhook-schedule", "100ms,200ms",
	}, more...)
}

// hookReceiver notes what it is sent.
type hookReceiver struct {
	*httptest.Server

	mu     sync.Mutex
	events []hookEvent
	answer func(n int) int // the status of the n-th answer; nil: 204
}

type hookEvent struct {
	header http.Header
	body   []byte
	Type   string
	Data   jobAnswer
}

func newHookReceiver(t testing.TB) *hookReceiver {
	t.Helper()
	rc := &hookReceiver{}
	rc.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		e := hookEvent{header: r.Header, body: body}
		if err != nil || json.Unmarshal(body, &e) != nil {
			t.Errorf("a receiver gets what is no JSON: %v: %s", err, body)
		}
		rc.mu.Lock()
		defer rc.mu.Unlock()
		rc.events = append(rc.events, e)
		code := http.StatusNoContent
		if rc.answer != nil {
			code = rc.answer(len(rc.events))
		}
		w.WriteHeader(code)
	}))
	t.Cleanup(rc.Close)
	return rc
}

func (rc *hookReceiver) got() []hookEvent {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	return append([]hookEvent(nil), rc.events...)
}

// of returns what came of a job.
func (rc *hookReceiver) of(ticket job.Ticket) (list []hookEvent) {
	for _, e := range rc.got() {
		if e.Data.ID == ticket.String() {
			list = append(list, e)
		}
	}
	return list
}

// await waits until each of the jobs was told of, as this type.
func (rc *hookReceiver) await(t testing.TB, kind string, tickets ...job.Ticket) {
	t.Helper()
	for _, ticket := range tickets {
		eventually(t, func() error {
			if list := rc.of(ticket); len(list) > 0 {
				if list[0].Type != kind {
					t.Fatalf("job %s is told of as %s, expected %s", ticket, list[0].Type, kind)
				}
				return nil
			}
			return fmt.Errorf("the receiver did not hear of job %s, only %d of others", ticket, len(rc.got()))
		})
	}
}

func hooked(r producer.Request, rc *hookReceiver) producer.Request {
	r.Webhook = rc.URL + "/hook"
	return r
}

// awaitHooks waits until no delivery is left.
func (h *hazard) awaitHooks(t testing.TB) {
	t.Helper()
	eventually(t, func() error {
		if s := h.stream(t, "webhooks"); s.messages != 0 {
			return fmt.Errorf("%d webhooks wait", s.messages)
		}
		return nil
	})
}

// crashOfHookedWorker kills a worker that has queued the deliveries of its jobs, and not acknowledged them. Another finds
// the jobs finished and queues them again, which is once.
func crashOfHookedWorker(h *hazard, armed []string) {
	t := h.t
	h.announceModels(t)
	rc := newHookReceiver(t)
	h.api(t, nil, hookArgs()...)
	p := h.producer(t)
	tickets := sheaf(t, p, hooked(slowJob(0, 0), rc), slowJob(0, 1), hooked(slowJob(0, 2), rc))
	h.launchWorker(t, armed).awaitDeath()
	w := h.worker(t, nil)
	h.awaitEmpty(t)
	if n := w.computed(t); n != 0 {
		t.Errorf("%d rows were computed again", n)
	}
	rc.await(t, "job.succeeded", tickets[0], tickets[2])
	h.awaitHooks(t)
	if n := len(rc.got()); n != 2 {
		t.Errorf("the receiver heard %d times, of two jobs with a webhook", n)
	}
	if err := isSlowAnswer(h.record(t, tickets[1].ID), 1); err != nil {
		t.Error(err)
	}
}

// crashOfSender kills a shim that delivers a webhook; times is how often the receiver hears of it in all.
func crashOfSender(times int) func(*hazard, []string) {
	return func(h *hazard, armed []string) {
		t := h.t
		h.announceModels(t)
		rc := newHookReceiver(t)
		dying, _ := h.api(t, armed, hookArgs()...)
		p := h.producer(t)
		ticket := single(t, p, hooked(slowJob(0, 1), rc))
		h.worker(t, nil)
		dying.awaitDeath()
		h.api(t, nil, hookArgs()...)
		h.awaitHooks(t)
		events := rc.of(ticket)
		if len(events) != times {
			t.Fatalf("the receiver heard %d times, expected %d", len(events), times)
		}
		for _, e := range events {
			if id := e.header.Get("webhook-id"); id == "" || id != events[0].header.Get("webhook-id") {
				t.Errorf("webhook-id %q, the first one is %q", id, events[0].header.Get("webhook-id"))
			}
		}
	}
}

// Whoever ends a job is killed right after its record is written. Its webhook is delivered all the same.
func TestNoWebhookIsLost(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.Recorded, failpoint.Told, failpoint.Acked, failpoint.DeadRecorded} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			h := newHazard(t)
			h.announceModels(t)
			rc := newHookReceiver(t)
			h.api(t, nil, hookArgs()...)
			var ticket job.Ticket
			kind := "job.succeeded"
			if point == failpoint.DeadRecorded {
				// Published by a program of somebody else's, and not what the model takes.
				id, err := job.NewID()
				if err != nil {
					t.Fatal(err)
				}
				testserver.Publish(t, h.nats, "sheaf.interactive.slow.default", map[string]string{
					job.HeaderID: id.String(), job.HeaderContentType: job.ContentTypeJSON, job.HeaderWebhook: rc.URL,
				}, []byte(inputs("x", "FP32", "[1,3]", "[1,2,3]")))
				kind, ticket = "job.failed", job.Ticket{ID: id, Seq: 1}
			} else {
				ticket = single(t, h.producer(t), hooked(slowJob(0, 1), rc))
			}
			h.launchWorker(t, armedAt(point, 1)).awaitDeath()
			h.worker(t, nil)
			rc.await(t, kind, ticket)
			h.awaitEmpty(t)
		})
	}
	for _, point := range []failpoint.Point{failpoint.CancelRecorded, failpoint.CancelTold, failpoint.WebhookQueued} {
		t.Run("canceled, "+string(point), func(t *testing.T) {
			t.Parallel()
			h := newHazard(t)
			h.announceModels(t)
			rc := newHookReceiver(t)
			dying, dyingURL := h.api(t, armedAt(point, 1), append(hookArgs(), "--webhooks=false")...)
			h.api(t, nil, hookArgs()...)
			ticket := single(t, h.producer(t), hooked(slowJob(0, 1), rc))
			attempt(t, http.MethodDelete, dyingURL+"/v1/jobs/"+ticket.String(), "", "")
			dying.awaitDeath()
			h.worker(t, nil)
			rc.await(t, "job.canceled", ticket)
			h.awaitEmpty(t)
			h.awaitHooks(t)
			if n := len(rc.of(ticket)); n != 1 {
				t.Errorf("the receiver heard %d times", n)
			}
		})
	}
}

// From the submit to the receiver's check of the signature, over everything that stands between; then once more by hand,
// over HTTP and by the command line.
func TestWebhookEndToEnd(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	w := h.worker(t, nil)
	rc := newHookReceiver(t)
	api, url := h.api(t, nil, hookArgs()...)
	rc.answer = func(n int) int {
		if n == 1 {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	}
	code, answer := post(t, url+"/v1/models/slow/jobs", map[string]any{"input": []float64{0, 20}, "webhook": rc.URL + "/hook?token=very-secret"})
	if code != http.StatusAccepted {
		t.Fatalf("submit is answered %d: %s", code, answer)
	}
	ticket, err := job.ParseTicket(decodeJob(t, answer).ID)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := len(rc.of(ticket)); n != 2 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	code, answer = get(t, url+"/v1/webhooks/secret")
	var secret struct {
		Secret string `json:"secret"`
	}
	if err := json.Unmarshal(answer, &secret); err != nil || code != http.StatusOK {
		t.Fatalf("the secret: %d %s", code, answer)
	}
	verifier, err := standardwebhooks.NewWebhook(secret.Secret)
	if err != nil {
		t.Fatal(err)
	}
	_, job := get(t, url+"/v1/jobs/"+ticket.String())
	for _, e := range rc.of(ticket) {
		if err := verifier.Verify(e.body, e.header); err != nil {
			t.Errorf("the signature: %v", err)
		}
		if e.Type != "job.succeeded" || !strings.HasSuffix(string(e.body), `,"data":`+string(job)+"}") {
			t.Errorf("got %s, GET gives %s", e.body, job)
		}
	}
	if out, errs, code := runToEnd(t, "", "webhook", "secret", "--nats-url", h.nats); code != exitOK || strings.TrimSpace(out) != secret.Secret {
		t.Errorf("sheaf webhook secret ends with %d: %s%s", code, out, errs)
	}

	if code, answer := request(t, http.MethodPost, url+"/v1/jobs/"+ticket.String()+"/webhook", nil, nil); code != http.StatusAccepted {
		t.Errorf("by hand: %d %s", code, answer)
	}
	eventually(t, func() error {
		if n := len(rc.of(ticket)); n != 3 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	if a, b := rc.of(ticket)[0], rc.of(ticket)[2]; a.header.Get("webhook-id") != b.header.Get("webhook-id") {
		t.Error("by hand it has another webhook-id")
	}
	h.awaitHooks(t)
	if strings.Contains(api.text()+w.text(), "very-secret") || strings.Contains(api.text(), secret.Secret) {
		t.Error("the logs say a secret")
	}
	if code := api.stop(syscall.SIGTERM); code != exitOK {
		t.Errorf("serve ends with %d", code)
	}
}

// What is given up is listed, and can be delivered by hand once the receiver is there.
func TestGivenUpWebhook(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	h.worker(t, nil)
	rc := newHookReceiver(t)
	rc.answer = func(n int) int {
		if n <= 3 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	}
	_, url := h.api(t, nil, hookArgs()...)
	ticket := single(t, h.producer(t), hooked(slowJob(0, 1), rc))
	list := func() (out string) {
		t.Helper()
		out, errs, code := runToEnd(t, "", "webhook", "ls", "--nats-url", h.nats, "-o", "json")
		if code != exitOK {
			t.Fatalf("sheaf webhook ls ends with %d: %s", code, errs)
		}
		return out
	}
	eventually(t, func() error {
		if out := list(); !strings.Contains(out, ticket.String()) {
			return errors.New(out)
		}
		return nil
	})
	var doc struct {
		Waiting, GivenUp int
		Webhooks         []givenUpView
	}
	if err := json.Unmarshal([]byte(list()), &doc); err != nil || doc.Waiting != 0 || len(doc.Webhooks) != 1 ||
		doc.Webhooks[0].Attempts != 3 || !strings.Contains(doc.Webhooks[0].Reason, "503") || strings.Contains(list(), "/hook") {
		t.Errorf("listed: %s", list())
	}
	if out, _, code := runToEnd(t, "", "webhook", "ls", "--nats-url", h.nats); code != exitOK || !strings.Contains(out, "1 given up, 1 shown; 0 wait") {
		t.Errorf("listed: %d %s", code, out)
	}
	out, errs, code := runToEnd(t, "", "webhook", "redeliver", ticket.ID.String(), "--nats-url", h.nats)
	if code != exitOK || strings.TrimSpace(out) != "queued: "+ticket.String() {
		t.Fatalf("redeliver ends with %d: %s%s", code, out, errs)
	}
	eventually(t, func() error {
		if n := len(rc.of(ticket)); n != 4 {
			return fmt.Errorf("%d attempts", n)
		}
		return nil
	})
	eventually(t, func() error {
		if n := metric(t, url, "sheaf_webhook_ended_total", `outcome="delivered"`); n != 1 {
			return fmt.Errorf("%v are counted as delivered", n)
		}
		return nil
	})
	if n := metric(t, url, "sheaf_webhook_attempts_total", `outcome="status"`); n != 3 {
		t.Errorf("%v attempts are counted as refused by status", n)
	}
}

// dev delivers to programs on the same machine without being told to.
func TestWebhookOfDev(t *testing.T) {
	t.Parallel()
	url := start(t, "dev", "--addr", "127.0.0.1:0", "--nats-addr", "127.0.0.1:0").find(`HTTP API +(\S+)`)
	rc := newHookReceiver(t)
	out, errs, code := runToEnd(t, "", "submit", "digits", repoPath("examples", "digit.json"), "--webhook", rc.URL, "--server", url, "-o", "json")
	if code != exitOK {
		t.Fatalf("submit ends with %d: %s", code, errs)
	}
	ticket, err := job.ParseTicket(decodeJob(t, []byte(out)).ID)
	if err != nil {
		t.Fatal(err)
	}
	rc.await(t, "job.succeeded", ticket)
}

func TestWebhookSettingsThatAreWrong(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`--webhook-allow-networks "10.0.0.1"`: {"--webhook-allow-networks", "10.0.0.1"},
		"--webhook-schedule: pause 2":         {"--webhook-schedule", "5s,1s"},
		"--webhook-timeout is 0s":             {"--webhook-timeout", "0s"},
		"--webhook-ack-wait is 10s":           {"--webhook-ack-wait", "10s"},
		"--webhook-ca":                        {"--webhook-ca", "/nowhere.pem"},
	} {
		_, errs, code := runToEnd(t, "", append([]string{"serve", "--addr", "127.0.0.1:0"}, args...)...)
		if code != exitUsage || !strings.Contains(errs, want) {
			t.Errorf("%v: %d %s", args, code, errs)
		}
	}
	if _, _, code := runToEnd(t, "", "webhook", "redeliver", "x"); code != exitUnreachable && code != exitUsage {
		t.Errorf("redeliver of what is no ID ends with %d", code)
	}
}
