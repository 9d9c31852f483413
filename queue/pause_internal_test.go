package queue

import (
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

// TestAResumeBetweenTheSharesOfAWorkersStart: a worker that makes the consumers of a model goes by what it has seen of
// the first one. An operator who resumes the lane meanwhile has the last word.
func TestAResumeBetweenTheSharesOfAWorkersStart(t *testing.T) {
	cfg := DefaultConfig()
	cfg.URL = testserver.NATS(t)
	ctx := t.Context()
	q, err := Connect(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if err := q.EnsureStreams(ctx); err != nil {
		t.Fatal(err)
	}
	p := preparation{q: q, lane: job.Bulk, model: "a", settings: *q.cfg.lane(job.Bulk)}
	if _, err := p.share(ctx, 0, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := q.Pause(ctx, job.Bulk, "", time.Time{}); err != nil {
		t.Fatal(err)
	}
	first, err := p.share(ctx, 0, true, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Resume(ctx, job.Bulk, ""); err != nil {
		t.Fatal(err)
	}
	for share := 1; share <= cfg.TenantShares; share++ {
		if _, err := p.share(ctx, share, false, first); err != nil {
			t.Fatal(err)
		}
	}
	lanes, err := q.Lanes(ctx)
	if err != nil || !lanes[job.Bulk].Models[0].Partly || lanes[job.Bulk].Models[0].PausedUntil.IsZero() {
		t.Errorf("some shares are paused and some are not, and this is said of it: %+v, %v", lanes, err)
	}
	if err := q.applyPause(ctx, job.Bulk, "a", true); err != nil { // the last step of EnsureConsumer
		t.Fatal(err)
	}
	consumers, err := q.consumers(ctx, job.Bulk)
	if err != nil || len(consumers) != cfg.TenantShares+1 {
		t.Fatalf("%d consumers, %v", len(consumers), err)
	}
	for _, c := range consumers {
		if c.Paused {
			t.Errorf("%s stays paused for %v", c.Name, c.PauseRemaining)
		}
	}
	if lanes, err = q.Lanes(ctx); err != nil || lanes[job.Bulk].Models[0].Partly {
		t.Errorf("after that: %+v, %v", lanes, err)
	}
}
