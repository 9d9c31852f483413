package worker_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/worker"
)

// greedy is a model that never has enough memory.
type greedy struct{}

func (greedy) Run(context.Context, *model.Batch) ([]job.Tensor, error) {
	return nil, fmt.Errorf("no room: %w", model.ErrResources)
}
func (greedy) Close() error { return nil }

// endless is a model that computes until it is told to stop.
type endless struct{ began chan struct{} }

func (e endless) Run(ctx context.Context, _ *model.Batch) ([]job.Tensor, error) {
	e.began <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}
func (endless) Close() error { return nil }

func TestExhaustedJobAmongTheDeadLetters(t *testing.T) {
	q := connect(t, testserver.NATS(t), nil)
	results := openRedis(t, testserver.Redis(t))
	m := doublingModel(nil)
	m.NewInstance = func() (worker.Instance, error) { return greedy{}, nil }
	m.Retry = worker.Retry{MaxAttempts: 3, Delay: time.Millisecond}
	run(t, worker.DefaultConfig(), q, results, m)
	jobs := numbers(t, 3, job.Interactive, oneRow)
	publish(t, q, jobs)
	for _, j := range jobs {
		got := await(t, results, j.ID)
		if got.Error == nil || got.Error.Code != job.CodeExhausted || got.Attempts != 3 || !strings.Contains(got.Error.Detail, "after 3 attempts") || !strings.Contains(got.Error.Detail, "no room") {
			t.Errorf("got %s after %d attempts (%v), want it to be given up after 3, with the cause", got.State, got.Attempts, got.Error)
		}
	}
	var dead []job.ID
	err := q.DeadLetters(t.Context(), queue.DeadFilter{}, func(d *queue.DeadLetter) error {
		dead = append(dead, d.Jobs...)
		if d.Code != job.CodeExhausted || len(d.History) != 3 {
			t.Errorf("code %s, history %q: want exhausted and 3 entries", d.Code, d.History)
		}
		for i, entry := range d.History {
			if !strings.Contains(entry, fmt.Sprintf("attempt %d at ", i+1)) || !strings.Contains(entry, "no room") {
				t.Errorf("entry %d of the history is %q", i, entry)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		if !slices.Contains(dead, j.ID) {
			t.Errorf("job %s is not among the dead letters", j.ID)
		}
	}
	if len(dead) != len(jobs) {
		t.Errorf("%d dead jobs, want %d", len(dead), len(jobs))
	}
	wantEmpty(t, q)
}

func TestNoticeOfACancelEndsARun(t *testing.T) {
	url := testserver.NATS(t)
	q := connect(t, url, nil)
	results := openMemory(t)
	began := make(chan struct{}, 100)
	m := doublingModel(nil)
	m.NewInstance = func() (worker.Instance, error) { return endless{began}, nil }
	run(t, worker.DefaultConfig(), q, results, m)
	jobs := numbers(t, 1, job.Interactive, oneRow)
	publish(t, q, jobs)
	<-began
	if err := connect(t, url, nil).NotifyCanceled([]job.ID{jobs[0].ID}); err != nil {
		t.Fatal(err)
	}
	if got := await(t, results, jobs[0].ID); got.State != job.Canceled {
		t.Errorf("the job is %s, want canceled", got.State)
	}
	wantEmpty(t, q)
}
