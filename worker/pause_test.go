package worker_test

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/worker"
)

// book is a writer for many goroutines.
type book struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *book) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// A worker whose lane is paused waits without a word, goes on with the other lane, and takes up the work when the pause
// ends, by itself or by a resume.
func TestWorkerInAPausedLane(t *testing.T) {
	q := connect(t, testserver.NATSProcess(t), nil)
	results := openMemory(t)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Pause(t.Context(), job.Bulk, "", time.Time{}); err != nil { // before there is a consumer
		t.Fatal(err)
	}
	var said book
	cfg := worker.DefaultConfig()
	cfg.FetchWait = 50 * time.Millisecond
	pool, err := worker.New(cfg, worker.Deps{
		Queue: q, Results: results, Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, doublingModel(nil))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- pool.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	eventually(t, "the worker works", func() bool { return pool.Ready() == nil })
	bulk, inter := numbers(t, 5, job.Bulk, oneRow), numbers(t, 5, job.Interactive, oneRow)
	publish(t, q, bulk)
	publish(t, q, inter)
	wantDoubled(t, results, inter)
	over := time.Now().Add(time.Second)
	if err := q.Pause(t.Context(), job.Bulk, "", over); err != nil { // many fetches end meanwhile
		t.Fatal(err)
	}
	for _, r := range wantDoubled(t, results, bulk) {
		if r.FinishedAt.Before(over.Add(-50 * time.Millisecond)) {
			t.Errorf("a job of the paused lane was finished %v before the pause ended", over.Sub(r.FinishedAt))
		}
	}
	if err := q.Pause(t.Context(), job.Bulk, "double", time.Time{}); err != nil {
		t.Fatal(err)
	}
	more := numbers(t, 5, job.Bulk, oneRow)
	publish(t, q, more)
	if err := q.Resume(t.Context(), job.Bulk, "double"); err != nil {
		t.Fatal(err)
	}
	wantDoubled(t, results, more)
	said.mu.Lock()
	defer said.mu.Unlock()
	if said.text.Len() > 0 {
		t.Errorf("the worker said\n%s", said.text.String())
	}
}
