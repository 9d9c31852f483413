package batch_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/webhook"
)

// begun makes a batch of which some lines are done and others are held at the gate.
func begun(t *testing.T, r *rig, p *process, change func(*batch.Spec)) (string, batch.Batch) {
	t.Helper()
	r.gate.set(false, 0)
	id := p.submit(t, requests(crashLines, nil), change)
	b := p.await(t, id, "some lines are done", func(b *batch.Batch) bool {
		r.gate.trickle(1)
		return b.RequestCounts.Completed >= 20
	})
	r.gate.set(false, 0)
	return id, b
}

// A batch that is canceled while it runs ends at once, and keeps what is done.
func TestCancelWhileItRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.start(nil)
	id, before := begun(t, r, p, nil)
	b, err := p.Cancel(t.Context(), tenant, id)
	if err != nil || b.Status != batch.Cancelling || b.CancellingAt == 0 {
		t.Fatalf("%+v, %v", b, err)
	}
	b = p.end(t, id, batch.Cancelled)
	if b.CancelledAt == 0 || b.RequestCounts.Total != crashLines || b.RequestCounts.Completed < before.RequestCounts.Completed || b.RequestCounts.Completed == crashLines {
		t.Errorf("%+v", b)
	}
	if got := p.outcome(t, &b); int64(len(got)) != b.RequestCounts.Completed {
		t.Errorf("%d lines, %+v", len(got), b.RequestCounts)
	}
	for what, err := range map[string]error{
		"cancel": second(p.Cancel(t.Context(), tenant, id)), "pause": second(p.Pause(t.Context(), tenant, id)), "resume": second(p.Resume(t.Context(), tenant, id)),
	} {
		if !errors.Is(err, batch.ErrFinished) {
			t.Errorf("%s after the end: %v", what, err)
		}
	}
}

func second(_ batch.Batch, err error) error { return err }

// What is not done when the window is over is left, and what is done is kept.
func TestTheCompletionWindow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.start(nil)
	id, before := begun(t, r, p, func(s *batch.Spec) { s.Window = "3s" })
	b := p.end(t, id, batch.Expired)
	if b.ExpiredAt < b.ExpiresAt || b.RequestCounts.Total != crashLines || b.RequestCounts.Completed < before.RequestCounts.Completed || b.OutputFile == "" {
		t.Errorf("%+v", b)
	}
	if got := p.outcome(t, &b); int64(len(got)) != b.RequestCounts.Completed {
		t.Errorf("%d lines, %+v", len(got), b.RequestCounts)
	}
}

// A paused batch holds no runner, goes on where it was, and can be canceled.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.start(nil)
	id, _ := begun(t, r, p, nil)
	if b, err := p.Pause(t.Context(), tenant, id); err != nil || !b.Paused {
		t.Fatalf("%+v, %v", b, err)
	}
	p.await(t, id, "it has come to rest", func(b *batch.Batch) bool { return b.Waiting != "" })
	r.gate.set(true, 0)
	p.end(t, p.submit(t, requests(20, nil), nil), batch.Completed) // there is only one runner
	b, err := p.Get(t.Context(), tenant, id)
	if err != nil || b.Status != batch.InProgress || !b.Paused || b.Rate != 0 {
		t.Fatalf("%+v, %v", b, err)
	}
	if _, err := p.Resume(t.Context(), tenant, id); err != nil {
		t.Fatal(err)
	}
	b = p.end(t, id, batch.Completed)
	if b.RequestCounts.Completed != crashLines || b.Paused || b.Waiting != "" {
		t.Errorf("%+v", b)
	}
	if got := p.outcome(t, &b); len(got) != crashLines {
		t.Errorf("%d lines", len(got))
	}

	paused, _ := begun(t, r, p, nil)
	if _, err := p.Pause(t.Context(), tenant, paused); err != nil {
		t.Fatal(err)
	}
	p.await(t, paused, "it has come to rest", func(b *batch.Batch) bool { return b.Waiting != "" })
	if _, err := p.Cancel(t.Context(), tenant, paused); err != nil {
		t.Fatal(err)
	}
	p.end(t, paused, batch.Cancelled)
}

// A long batch makes room for one that nobody has taken up, and goes on afterwards.
func TestALongBatchMakesRoomForAShortOne(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *batch.Config) { c.Slice = 50 * time.Millisecond })
	p := r.start(nil)
	long, _ := begun(t, r, p, nil)
	short := p.submit(t, requests(5, nil), nil)
	p.await(t, short, "the short one ends", func(b *batch.Batch) bool {
		if b.Status == batch.InProgress {
			r.gate.trickle(1)
		}
		return b.Status == batch.Completed
	})
	if b, err := p.Get(t.Context(), tenant, long); err != nil || b.Status != batch.InProgress {
		t.Errorf("the long one: %+v, %v", b, err)
	}
	r.gate.set(true, 0)
	if b := p.end(t, long, batch.Completed); b.RequestCounts.Completed != crashLines {
		t.Errorf("%+v", b.RequestCounts)
	}
}

// Outside its windows a batch waits, and says so.
func TestABatchWaitsForItsWindow(t *testing.T) {
	t.Parallel()
	p := newRig(t, nil).start(nil)
	now := time.Now()
	window := now.Add(2*time.Hour).Format("15:04") + "-" + now.Add(3*time.Hour).Format("15:04")
	id := p.submit(t, requests(20, nil), func(s *batch.Spec) { s.Windows = []string{window} })
	b := p.await(t, id, "it waits", func(b *batch.Batch) bool { return strings.Contains(b.Waiting, "window") })
	if b.Status != batch.Validating || b.RequestCounts.Completed != 0 {
		t.Errorf("%+v", b)
	}
	open := now.Add(-time.Hour).Format("15:04") + "-" + now.Add(time.Hour).Format("15:04")
	p.end(t, p.submit(t, requests(20, nil), func(s *batch.Spec) { s.Windows = []string{window, open} }), batch.Completed)
}

// A batch waits for a model that nobody serves any more, and goes on with it.
func TestABatchWaitsForItsModel(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *batch.Config) { c.MaxStarts = 1 }) // waiting is none of the starts
	p := r.start(func(c *batch.Config, _ *batch.Deps) { c.Runners = 0 })
	id := p.submit(t, requests(20, nil), nil)
	info := sum()
	r.models.Delete(info.Key())
	p = r.start(nil)
	p.await(t, id, "it waits", func(b *batch.Batch) bool { return strings.Contains(b.Waiting, "model") })
	r.models.Put(info)
	p.end(t, id, batch.Completed)
}

// Outputs can be read while the batch runs, from any place, to its end.
func TestFollow(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.start(nil)
	r.gate.set(false, 0)
	id := p.submit(t, requests(crashLines, spoil), nil)
	var got [2]strings.Builder
	var all sync.WaitGroup
	early := make(chan struct{})
	for i, of := range []batch.Output{batch.Results, batch.Errors} {
		all.Go(func() {
			at := int64(0)
			for lines, err := range p.Follow(t.Context(), tenant, id, of, 0) {
				if err != nil {
					t.Error(err)
					return
				}
				if at == 0 && of == batch.Results {
					close(early)
				}
				at += int64(len(lines.Data))
				if lines.Next != at || lines.Data[len(lines.Data)-1] != '\n' {
					t.Errorf("%d bytes up to %d, next is %d", len(lines.Data), at, lines.Next)
				}
				_, _ = got[i].Write(lines.Data) // a Builder does not fail
			}
		})
	}
	eventually(t, "lines come before the end", func() bool {
		r.gate.trickle(1)
		select {
		case <-early:
			return true
		default:
			return false
		}
	})
	if b, err := p.Get(t.Context(), tenant, id); err != nil || b.Status.Final() || b.OutputFile != "" {
		t.Errorf("%+v, %v", b, err)
	}
	r.gate.set(true, 0)
	all.Wait()
	b := p.end(t, id, batch.Completed)
	out, bad := p.text(t, b.OutputFile), p.text(t, b.ErrorFile)
	if got[0].String() != out || got[1].String() != bad {
		t.Errorf("followed %d and %d bytes, the files have %d and %d", got[0].Len(), got[1].Len(), len(out), len(bad))
	}
	var rest strings.Builder
	for lines, err := range p.Follow(t.Context(), tenant, id, batch.Results, 100) {
		if err != nil {
			t.Fatal(err)
		}
		rest.Write(lines.Data)
	}
	if rest.String() != out[100:] {
		t.Errorf("from byte 100: %d bytes of %d", rest.Len(), len(out)-100)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r.gate.set(false, 0)
	idle := p.submit(t, requests(5, nil), nil)
	time.AfterFunc(50*time.Millisecond, cancel)
	for _, err := range p.Follow(ctx, tenant, idle, batch.Results, 0) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	r.gate.set(true, 0)
}

// A batch says how fast it is, and no faster than it may be.
func TestMaxRate(t *testing.T) {
	t.Parallel()
	p := newRig(t, nil).start(nil)
	id := p.submit(t, requests(60, nil), func(s *batch.Spec) { s.MaxRate = 40 })
	b := p.await(t, id, "it knows its rate", func(b *batch.Batch) bool { return b.Rate > 0 || b.Status.Final() })
	if b.Status.Final() || b.ETA < 1 {
		t.Errorf("%+v", b)
	}
	p.end(t, id, batch.Completed)
}

// The end of a batch is told to its webhook: once a batch, as what it is.
func TestWebhooks(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var mu sync.Mutex
	var bodies, ids []string
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		bodies, ids = append(bodies, string(b)), append(ids, req.Header.Get("webhook-id"))
	}))
	defer receiver.Close()
	cfg := webhook.DefaultConfig()
	cfg.AllowHTTP, cfg.AllowNetworks, cfg.StopTimeout = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, 100*time.Millisecond
	p := r.start(func(_ *batch.Config, d *batch.Deps) { d.Webhooks = webhook.NewPolicy(&cfg) })
	sender, err := webhook.New(cfg, webhook.Deps{
		Queue: p.q, Results: r.store, Batches: p.Service, Secrets: webhook.NewSecrets(p.q.Bucket(webhook.BucketName), cfg.Overlap),
		Render: func(job.Ticket, *job.Result, bool) []byte { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() { sender.Run(ctx) })
	defer sending.Wait()
	defer cancel()
	if _, err := p.Create(t.Context(), tenant, batch.Spec{Endpoint: endpoint, InputFile: p.upload(t, "x"), Webhook: "ftp://example.com"}, batch.Once{}); err == nil {
		t.Error("a URL that cannot be called is taken")
	}
	good := p.submit(t, requests(20, nil), func(s *batch.Spec) { s.Webhook = receiver.URL + "/hook" })
	bad := p.submit(t, "", func(s *batch.Spec) { s.Webhook = receiver.URL + "/hook" })
	eventually(t, "both are told", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(bodies) == 2
	})
	mu.Lock()
	text := strings.Join(bodies, "\n")
	for _, want := range []string{`{"type":"batch.completed","timestamp":"`, `{"type":"batch.failed","timestamp":"`, `"data":{"id":"` + good + `","object":"batch"`, `"id":"` + bad, `"total":20,"completed":20`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	if ids[0] == ids[1] || ids[0] == "" {
		t.Errorf("the IDs are %q", ids)
	}
	mu.Unlock()
	// That of a batch which is gone is dropped.
	gone, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	w := queue.Webhook{Kind: queue.WebhookBatch, Ticket: job.Ticket{ID: gone}, Tenant: tenant, Finished: time.Now()}
	if err := errors.Join(p.q.QueueWebhooks(t.Context(), []queue.Webhook{w})...); err != nil {
		t.Fatal(err)
	}
	eventually(t, "none is left", func() bool {
		waiting, givenUp, err := p.q.WebhookBacklog(t.Context())
		return err == nil && givenUp == 0 && waiting == 0
	})
}

// places are what stands behind URLs.
type places struct {
	mu    sync.Mutex
	files map[string]string
}

func (p *places) Open(_ context.Context, url string) (table.Input, io.Closer, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text, ok := p.files[url]
	if !ok {
		return nil, nil, job.Invalidf("input_url", "there is nothing")
	}
	return text1(text), io.NopCloser(nil), nil
}

func (p *places) Check(field, url string) error {
	if !strings.HasPrefix(url, "mem://") {
		return job.Invalidf(field, "not there")
	}
	return nil
}

func (p *places) Put(_ context.Context, url string, r io.Reader) error {
	b, err := io.ReadAll(r)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files[url] = string(b)
	return err
}

type text1 string

func (t text1) Size() int64 { return int64(len(t)) }
func (t text1) From(offset int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(string(t)[offset:])), nil
}
func (t text1) ReaderAt() io.ReaderAt { return strings.NewReader(string(t)) }

func TestInputsAndOutputsByURL(t *testing.T) {
	t.Parallel()
	at := &places{files: map[string]string{"mem://in": requests(50, spoil)}}
	p := newRig(t, nil).start(func(_ *batch.Config, d *batch.Deps) { d.Inputs, d.Outputs = at, at })
	create := func(in, out string) (batch.Batch, error) {
		return p.Create(t.Context(), tenant, batch.Spec{Endpoint: endpoint, InputURL: in, OutputURL: out, ErrorURL: out + "-errors"}, batch.Once{})
	}
	if _, err := create("mem://in", "file:///etc/passwd"); err == nil {
		t.Error("an output where none may be")
	}
	made, err := create("mem://in", "mem://out")
	if err != nil {
		t.Fatal(err)
	}
	b := p.end(t, made.ID, batch.Completed)
	same(t, p.outcome(t, &b), expected(50))
	at.mu.Lock()
	out, bad := at.files["mem://out"], at.files["mem://out-errors"]
	at.mu.Unlock()
	if out != p.text(t, b.OutputFile) || bad != p.text(t, b.ErrorFile) || b.FinalizingAt == 0 {
		t.Errorf("%d and %d bytes were written", len(out), len(bad))
	}
	made, err = create("mem://none", "mem://out")
	if err != nil {
		t.Fatal(err)
	}
	if b := p.end(t, made.ID, batch.Failed); b.Errors.Data[0].Param != "input_url" {
		t.Errorf("%+v", b.Errors)
	}
}

func TestUnfinishedBatchesAreBounded(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(c *batch.Config) { c.Runners, c.MaxBatchesPerTenant, c.MaxBatches = 0, 2, 3 }).start(nil)
	file := p.upload(t, requests(1, nil))
	spec := batch.Spec{Endpoint: endpoint, InputFile: file}
	for range 2 {
		if _, err := p.Create(t.Context(), tenant, spec, batch.Once{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.Create(t.Context(), tenant, spec, batch.Once{}); !errors.Is(err, queue.ErrTenantFull) {
		t.Errorf("the tenant's third: %v", err)
	}
	if list, _, err := p.List(t.Context(), tenant, "", 10); err != nil || len(list) != 2 {
		t.Errorf("one that was refused is there: %+v, %v", list, err)
	}
}
