package httpapi_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// longPoll asks for a job in a goroutine of its own.
func (r *rig) longPoll(t *testing.T, ctx context.Context, ticket job.Ticket, wait string) <-chan reply { //nolint:revive // t first, as helpers have it
	t.Helper()
	answer := make(chan reply, 1)
	go func() { answer <- r.callContext(t, ctx, "GET", "/v1/jobs/"+ticket.String()+"?wait="+wait, "") }()
	return answer
}

func TestWaitForms(t *testing.T) {
	for wait, took := range map[string]time.Duration{
		"20s": 20 * time.Second, "20": 20 * time.Second, "500ms": 500 * time.Millisecond, "1m": time.Minute, "0": 0, "0s": 0,
		"61s": time.Minute, "10h": time.Minute, "99999999999999999999999": time.Minute,
	} {
		t.Run(wait, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, nil)
				ticket := r.submit(t)
				start := time.Now()
				a := r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait="+wait, "")
				if a.status != 200 || a.str("status") != "queued" || time.Since(start) != took {
					t.Errorf("status %d after %s, expected 200 after %s: %s", a.status, time.Since(start), took, a.body)
				}
			})
		})
	}
	r := newRig(t, nil)
	ticket := r.submit(t)
	for _, wait := range []string{"", "soon", "-1s", "-1", "1.5", "5parsecs"} {
		a := r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait="+wait, "")
		a.problem(t, 400, "malformed")
		if a.str("field") != "wait" {
			t.Errorf("wait %q: field %q", wait, a.str("field"))
		}
	}
}

// Two shims share the queue and the store: a job submitted at one is waited for at the other, and a notice wakes it.
func TestNoticeWakesWaitersOfEveryReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(c *config, _ *deps) { c.PollInterval = time.Hour }
		one := newRig(t, slow)
		two := newRigOn(t, one.queue, one.store, slow)
		ticket := one.submit(t)
		var answers []<-chan reply
		for _, r := range []*rig{one, two, two} {
			answers = append(answers, r.longPoll(t, t.Context(), ticket, "30s"))
		}
		synctest.Wait()
		start := time.Now()
		one.settle(t, ticket, job.Result{State: job.Succeeded})
		for i, answer := range answers {
			if a := <-answer; a.str("status") != "succeeded" || time.Since(start) != 0 {
				t.Errorf("waiter %d: after %s: %s", i, time.Since(start), a.body)
			}
		}
	})
}

func TestLostNoticeIsMadeUpFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.queue.lost = true
		ticket := r.submit(t)
		answer := r.longPoll(t, t.Context(), ticket, "30s")
		synctest.Wait()
		start := time.Now()
		r.settle(t, ticket, job.Result{State: job.Succeeded})
		a := <-answer
		if took := time.Since(start); a.str("status") != "succeeded" || took > gateway.DefaultConfig().PollInterval {
			t.Errorf("after %s: %s", took, a.body)
		}
		if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, `sheaf_gateway_wakeups_total{by="poll"} 1`) {
			t.Error("the metrics do not count the lost notice")
		}
	})
}

// The job finishes, and its notice comes, while the look-up of a request that is about to wait is under way.
func TestFinishDuringTheLookUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.PollInterval = time.Hour })
		ticket := r.submit(t)
		r.queue.onLocate = func() {
			r.queue.onLocate = nil
			record := job.AppendRecord(nil, &job.Result{State: job.Succeeded, Tenant: "default"})
			if _, err := r.store.Finish(t.Context(), []resultstore.Entry{{ID: ticket.ID, Record: record}}); err != nil {
				t.Error(err)
			}
			// The message is still there: Locate says queued.
			if err := r.queue.NotifyDone([]job.ID{ticket.ID}); err != nil {
				t.Error(err)
			}
		}
		start := time.Now()
		a := r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=30s", "")
		if a.str("status") != "succeeded" || time.Since(start) != 0 {
			t.Errorf("after %s: %s", time.Since(start), a.body)
		}
	})
}

// eager finishes every job before its submitter has the ticket.
type eager struct {
	gateway.Submitter
	finish func(t job.Ticket)
}

func (e *eager) Submit(ctx context.Context, r producer.Request) (producer.Submission, error) {
	s, err := e.Submitter.Submit(ctx, r)
	if err == nil {
		e.finish(s.Ticket)
	}
	return s, err
}

// The notice of a quick job comes before anybody can wait for it.
func TestFinishBeforeTheTicketIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quick := &eager{}
		r := newRig(t, func(c *config, d *deps) {
			c.PollInterval = time.Hour
			quick.Submitter = d.Submitter
			d.Submitter = quick
		})
		quick.finish = func(ticket job.Ticket) {
			r.settle(t, ticket, job.Result{State: job.Succeeded, Outputs: []job.Tensor{fp32("probabilities", []int64{1, 2}, 0.25, 0.75)}})
		}
		start := time.Now()
		predicted := r.call(t, "POST", "/v1/models/digits/predict", oneRow)
		preferred := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Prefer", "wait=5")
		if predicted.status != 200 || preferred.status != 200 || time.Since(start) != 0 {
			t.Errorf("after %s: %s\n%s", time.Since(start), predicted.body, preferred.body)
		}
	})
}

func TestWaitersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, func(c *config, _ *deps) { c.MaxWaiters = 2 })
		ticket := r.submit(t)
		ctx, leave := context.WithCancel(t.Context())
		first, second := r.longPoll(t, ctx, ticket, "30s"), r.longPoll(t, t.Context(), ticket, "30s")
		synctest.Wait()

		a := r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=1s", "")
		a.problem(t, 503, "too-many-waiters")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		r.call(t, "POST", "/v1/models/digits/predict", oneRow).problem(t, 503, "too-many-waiters")
		if n := len(r.queue.waiting); n != 1 {
			t.Errorf("%d jobs wait, expected that /predict without a seat submits none", n)
		}
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String(), ""); a.status != 200 {
			t.Errorf("a poll that does not wait was refused: %d", a.status)
		}
		// A preference is no demand: the job is accepted.
		if a := r.call(t, "POST", "/v1/models/digits/jobs", oneRow, "Prefer", "wait=5"); a.status != 202 || a.header.Get("Preference-Applied") != "" {
			t.Errorf("status %d, header %v", a.status, a.header)
		}

		leave() // a client that goes frees its seat
		<-first
		third := r.longPoll(t, t.Context(), ticket, "1s")
		if a := <-third; a.status != 200 {
			t.Errorf("status %d after a seat was freed: %s", a.status, a.body)
		}
		<-second
		if m := r.call(t, "GET", "/metrics", ""); !strings.Contains(m.body, "sheaf_gateway_waiters 0") {
			t.Error("seats are still taken")
		}
	})
}

// A client that hangs up on a real connection frees its seat.
func TestHangUpFreesTheSeat(t *testing.T) {
	r := newRig(t, nil)
	ticket := r.submit(t)
	ctx, leave := context.WithCancel(t.Context())
	located := make(chan struct{}, 1)
	r.queue.onLocate = func() { located <- struct{}{} }
	req, err := http.NewRequestWithContext(ctx, "GET", r.listen(t)+"/v1/jobs/"+ticket.String()+"?wait=60s", nil)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		resp, err := r.server.Client().Do(req)
		if err == nil {
			_ = resp.Body.Close()
			t.Error("the request was answered before its client left")
		}
	})
	<-located
	leave()
	wg.Wait()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		if m := r.call(t, "GET", "/metrics", ""); strings.Contains(m.body, `route="/v1/jobs/{id}",status="gone"} 1`) && strings.Contains(m.body, "sheaf_gateway_waiters 0") {
			return
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("the seat is still taken")
		}
	}
}

func TestCloseAnswersWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		ticket := r.submit(t)
		answer := r.longPoll(t, t.Context(), ticket, "30s")
		predicted := make(chan reply, 1)
		go func() { predicted <- r.call(t, "POST", "/v1/models/digits/predict", oneRow) }()
		synctest.Wait()
		start := time.Now()
		r.jobs.Close()
		if a := <-answer; a.status != 200 || a.str("status") != "queued" || time.Since(start) != 0 {
			t.Errorf("after %s: %s", time.Since(start), a.body)
		}
		a := <-predicted
		a.problem(t, 504, "timeout")
		if a.header.Get("Location") == "" {
			t.Error("the client cannot poll elsewhere")
		}
		if a := r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=30s", ""); a.status != 200 || time.Since(start) != 0 {
			t.Errorf("a request waits after Close: %s", a.body)
		}
		r.call(t, "POST", "/v1/models/digits/predict", oneRow).problem(t, 503, "unavailable")
	})
}

// flaky is a store that fails on demand and counts the look-ups.
type flaky struct {
	gateway.Results
	mu      sync.Mutex
	err     error
	lookups []int // how many IDs each had
}

func (f *flaky) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lookups = append(f.lookups, len(ids))
	if f.err != nil {
		return nil, f.err
	}
	return f.Results.Get(ctx, ids...)
}

func (f *flaky) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func TestWaiterOutlastsAFailingStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *flaky
		r := newRig(t, func(_ *config, d *deps) { store = &flaky{Results: d.Results}; d.Results = store })
		ticket := r.submit(t)
		answer := r.longPoll(t, t.Context(), ticket, "30s")
		synctest.Wait()
		store.set(errors.Join(resultstore.ErrUnavailable))
		r.settle(t, ticket, job.Result{State: job.Succeeded})
		<-time.After(5 * time.Second)
		select {
		case a := <-answer:
			t.Fatalf("answered while the store is down: %s", a.body)
		default:
		}
		r.call(t, "GET", "/v1/jobs/"+ticket.String(), "").problem(t, 503, "unavailable")
		store.set(nil)
		if a := <-answer; a.str("status") != "succeeded" {
			t.Error(a.body)
		}
	})
}

// However many wait, one notice costs few look-ups.
func TestLookUpsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store *flaky
		r := newRig(t, func(c *config, d *deps) {
			c.PollInterval = time.Hour
			store = &flaky{Results: d.Results}
			d.Results = store
		})
		const n = 64
		var ids []job.ID
		var entries []resultstore.Entry
		answers := make([]<-chan reply, n)
		for i := range n {
			ticket := r.submit(t)
			ids = append(ids, ticket.ID)
			entries = append(entries, resultstore.Entry{ID: ticket.ID, Record: job.AppendRecord(nil, &job.Result{State: job.Succeeded, Tenant: "default", Attempts: i + 1})})
			answers[i] = r.longPoll(t, t.Context(), ticket, "30s")
		}
		synctest.Wait()
		store.mu.Lock()
		store.lookups = nil
		store.mu.Unlock()
		if _, err := r.store.Finish(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
		_ = r.queue.NotifyDone(ids)
		for i, answer := range answers {
			if a := <-answer; !strings.Contains(a.body, `"attempts":`+strconv.Itoa(i+1)+`,`) {
				t.Errorf("waiter %d was given another's result: %s", i, a.body)
			}
		}
		if len(store.lookups) != 1 || store.lookups[0] != n {
			t.Errorf("look-ups of %v records, expected one of %d", store.lookups, n)
		}
	})
}
