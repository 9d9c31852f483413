package httpapi_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/webhook"
)

// hooks are the webhooks of a server with the strict policy.
type hooks struct{ *webhook.Policy }

func newHooks() hooks {
	cfg := webhook.DefaultConfig()
	return hooks{webhook.NewPolicy(&cfg)}
}

func (hooks) Secret(_ context.Context, tenant string) (string, error) { return "whsec_" + tenant, nil }

func hooked(t testing.TB) *rig {
	t.Helper()
	return newRig(t, func(_ *config, d *deps) { d.Webhooks = newHooks() })
}

const hookURL = "https://hooks.example/x?key=secret"

func hookedRow(url string) string { return `{"input":[1,2,3,4],"webhook":"` + url + `"}` }

// submitHooked submits a job that names a webhook.
func (r *rig) submitHooked(t testing.TB, name string, header ...string) job.Ticket {
	t.Helper()
	a := r.call(t, "POST", "/v1/models/"+name+"/jobs", hookedRow(hookURL), header...)
	if a.status != 202 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	ticket, err := job.ParseTicket(a.str("id"))
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func TestSubmitWithWebhook(t *testing.T) {
	r := hooked(t)
	ticket := r.submitHooked(t, "digits")
	if m := r.queue.last(t); m.job.Webhook != hookURL {
		t.Errorf("submitted with the webhook %q", m.job.Webhook)
	}
	if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); strings.Contains(a.body, "hooks.example") {
		t.Errorf("the webhook is shown to everybody who has the ticket: %s", a.body)
	}
	for body, detail := range map[string]string{
		hookedRow("http://hooks.example/"):              "https",
		hookedRow("https://127.0.0.1/"):                 "public host",
		hookedRow("https://[::ffff:169.254.169.254]/"):  "public host",
		hookedRow("https://user:secret@hooks.example/"): "without a user",
		hookedRow("ftp://hooks.example/"):               "absolute URL",
		hookedRow(""):                                   "a URL, once",
		`{"input":[1,2,3,4],"webhook":7}`:               "a URL, once",
		`{"webhook":"https://a.example","input":[1,2,3,4],"webhook":"https://b.example"}`: "a URL, once",
	} {
		a := r.call(t, "POST", "/v1/models/digits/jobs", body)
		a.problem(t, 422, "invalid")
		if a.str("field") != "webhook" || !strings.Contains(a.str("detail"), detail) || strings.Contains(a.body, "secret") {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	a := r.call(t, "POST", "/v1/models/digits/predict", hookedRow(hookURL))
	a.problem(t, 422, "invalid")
	if a.str("field") != "webhook" {
		t.Error(a.body)
	}
	if n := len(r.queue.waiting); n != 1 {
		t.Errorf("%d jobs are submitted, expected 1", n)
	}
}

func TestSubmitWithoutWebhooks(t *testing.T) {
	r := newRig(t, nil)
	a := r.call(t, "POST", "/v1/models/digits/jobs", hookedRow(hookURL))
	a.problem(t, 422, "invalid")
	if a.str("field") != "webhook" || !strings.Contains(a.str("detail"), "delivers no webhooks") {
		t.Error(a.body)
	}
	r.call(t, "GET", "/v1/webhooks/secret", "").problem(t, 400, "unsupported")
}

// The API queues the delivery of what it ends before it removes the message; if it cannot, the message stays for a worker.
func TestWebhookOfWhatTheAPIEnds(t *testing.T) {
	for _, tt := range []struct {
		name, model string
		end         func(t *testing.T, r *rig, ticket job.Ticket)
		state       job.State
	}{
		{"canceled", "digits", func(t *testing.T, r *rig, ticket job.Ticket) {
			t.Helper()
			if a := r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), ""); a.status != 200 {
				t.Fatal(a.body)
			}
		}, job.Canceled},
		{"expired", "hasty", func(t *testing.T, r *rig, ticket job.Ticket) {
			t.Helper()
			<-time.After(6 * time.Second)
			if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.str("status") != "expired" {
				t.Fatal(a.body)
			}
		}, job.Expired},
	} {
		for _, fails := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, queue fails %t", tt.name, fails), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := hooked(t)
					ticket := r.submitHooked(t, tt.model)
					if fails {
						r.queue.webhookErr = errors.New("no")
					}
					tt.end(t, r, ticket)
					records, err := r.store.Get(t.Context(), ticket.ID)
					if err != nil {
						t.Fatal(err)
					}
					record, err := job.DecodeRecord(ticket.ID, records[0])
					if err != nil || record.State != tt.state || record.Webhook != hookURL {
						t.Errorf("the record: %+v, %v", record, err)
					}
					if fails {
						if len(r.queue.removed) != 0 {
							t.Error("the message is removed, and its webhook is not queued")
						}
						return
					}
					if !slices.Equal(r.queue.removed, []job.ID{ticket.ID}) {
						t.Errorf("removed %v", r.queue.removed)
					}
					want := queue.Webhook{Ticket: ticket, Tenant: job.DefaultTenant, Host: "hooks.example", Finished: record.FinishedAt}
					if len(r.queue.webhooks) != 1 || !sameWebhook(r.queue.webhooks[0], want) {
						t.Errorf("queued %+v, expected %+v", r.queue.webhooks, want)
					}
				})
			})
		}
	}
}

// sameWebhook compares times as records keep them.
func sameWebhook(a, b queue.Webhook) bool {
	same := a.Finished.UnixMilli() == b.Finished.UnixMilli()
	a.Finished, b.Finished = time.Time{}, time.Time{}
	return same && a == b
}

func TestRedeliver(t *testing.T) {
	r, who := guarded(t, func(_ *config, d *deps) { d.Webhooks = newHooks() })
	acme, other := who.key(t, auth.Key{Tenant: "acme"}), who.key(t, auth.Key{Tenant: "other"})
	submit := func(body string) job.Ticket {
		t.Helper()
		if a := r.call(t, "POST", "/v1/models/digits/jobs", body, as(acme)...); a.status != 202 {
			t.Fatal(a.body)
		}
		return r.queue.last(t).ticket
	}
	again := func(ticket job.Ticket, key string) reply {
		t.Helper()
		return r.call(t, "POST", "/v1/jobs/"+ticket.String()+"/webhook", "", as(key)...)
	}
	finish := func(ticket job.Ticket, url string) {
		t.Helper()
		r.settle(t, ticket, job.Result{State: job.Failed, Tenant: "acme", Webhook: url, FinishedAt: time.UnixMilli(1_750_000_000_123)})
	}
	ticket := submit(hookedRow(hookURL))
	a := again(ticket, acme)
	a.problem(t, 409, "not-finished")
	if a.str("job_status") != "running" && a.str("job_status") != "queued" {
		t.Error(a.body)
	}
	finish(ticket, hookURL)
	again(ticket, other).problem(t, 404, "unknown-job")
	if len(r.queue.webhooks) != 0 {
		t.Fatalf("queued %+v", r.queue.webhooks)
	}
	if a := again(ticket, acme); a.status != 202 || a.str("id") != ticket.String() {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	if got := r.queue.webhooks; len(got) != 1 || got[0].Ticket != ticket || !got[0].Hand || got[0].Tenant != "acme" || got[0].Host != "hooks.example" || got[0].Finished.UnixMilli() != 1_750_000_000_123 {
		t.Errorf("queued %+v", got)
	}
	plain := submit(oneRow)
	finish(plain, "")
	again(plain, acme).problem(t, 409, "no-webhook")
	r.queue.webhookErr = fmt.Errorf("%w: no answer", queue.ErrUnavailable)
	again(ticket, acme).problem(t, 503, "unavailable")
}

func TestWebhookSecret(t *testing.T) {
	r, who := guarded(t, func(_ *config, d *deps) { d.Webhooks = newHooks() })
	a := r.call(t, "GET", "/v1/webhooks/secret", "", as(who.key(t, auth.Key{Tenant: "acme"}))...)
	if a.status != 200 || a.body != `{"secret":"whsec_acme"}` || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d: %s %v", a.status, a.body, a.header)
	}
}

// What a receiver is sent of a job is what GET gives of it.
func TestJobJSONIsWhatGetGives(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	res := digitsResult(r.queue.last(t).job)
	res.FinishedAt, res.Timings.Queue = time.Now(), time.Millisecond
	r.settle(t, ticket, res)
	records, err := r.store.Get(t.Context(), ticket.ID)
	if err != nil {
		t.Fatal(err)
	}
	record, err := job.DecodeRecord(ticket.ID, records[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(httpapi.JobJSON(ticket, &record, true)), r.call(t, "GET", "/v1/jobs/"+ticket.String(), "").body; got != want {
		t.Errorf("got %s, GET gives %s", got, want)
	}
	var doc map[string]any
	if err := json.Unmarshal(httpapi.JobJSON(ticket, &record, false), &doc); err != nil || doc["outputs_omitted"] != true || doc["outputs"] != nil || doc["status"] != "succeeded" {
		t.Errorf("without outputs: %v, %v", doc, err)
	}
}

// The lines of a bulk request may each name a webhook; one that may not be called refuses its line.
func TestWebhooksOfBulk(t *testing.T) {
	r := hooked(t)
	a := r.call(t, "POST", "/v1/models/digits/bulk", hookedRow(hookURL)+"\n"+hookedRow("https://10.0.0.1/")+"\n"+oneRow+"\n", "Content-Type", "application/x-ndjson")
	if a.status != 200 || !strings.Contains(a.body, `"field":"webhook"`) || !strings.Contains(a.body, `{"done":true,"accepted":2,"refused":1}`) {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	var urls []string
	for _, m := range r.queue.waiting {
		urls = append(urls, m.job.Webhook)
	}
	slices.Sort(urls)
	if !slices.Equal(urls, []string{"", hookURL}) {
		t.Errorf("submitted with %q", urls)
	}
}
