package queue_test

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func TestTheSameIDIsStoredOnce(t *testing.T) {
	q := ready(t, nil)
	for name, change := range map[string]func(*job.Job){
		"idempotent": func(j *job.Job) { j.Idempotent = true },
		"alone":      func(*job.Job) {},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJob(t, change)
			first := publish(t, q, j)
			again, duplicate, err := q.Publish(t.Context(), j)
			if err != nil || !duplicate || again != first {
				t.Errorf("expected a duplicate with the ticket %v, got %v, %v, %v", first, again, duplicate, err)
			}
			tickets, err := q.PublishSheaf(t.Context(), []*job.Job{j})
			if err != nil || tickets[0] != first {
				t.Errorf("as a sheaf: expected %v, got %v, %v", first, tickets, err)
			}
		})
	}
}

// A job that is published again, now at the head of a sheaf, must not make the server drop its new neighbours.
func TestARepeatedJobDoesNotSwallowItsNewNeighbours(t *testing.T) {
	q := ready(t, nil)
	jobs := newJobs(t, 3, nil)
	if _, err := q.PublishSheaf(t.Context(), jobs[:2]); err != nil {
		t.Fatal(err)
	}
	tickets, err := q.PublishSheaf(t.Context(), []*job.Job{jobs[0], jobs[2]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := q.Locate(t.Context(), tickets[1]); err != nil {
		t.Errorf("the new neighbour is not in the stream: %v", err)
	}
}

func TestLimitsHaveErrorsOfTheirOwn(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*queue.Config)
		prepare int // jobs that fit
		bytes   int
		want    error
	}{
		{"messages of one tenant", func(c *queue.Config) { c.Interactive.MaxMsgsPerSubject = 2 }, 2, 16, queue.ErrTenantFull},
		{"messages in all", func(c *queue.Config) { c.Interactive.MaxMsgs = 3 }, 3, 16, queue.ErrFull},
		{"bytes in all", func(c *queue.Config) { c.Interactive.MaxBytes = 16 << 10 }, 1, 12 << 10, queue.ErrFull},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := ready(t, c.change)
			size := func(j *job.Job) {
				j.Inputs[0].Shape, j.Inputs[0].Data = []int64{1, int64(c.bytes / 4)}, make([]byte, c.bytes)
				_, _ = rand.Read(j.Inputs[0].Data) // what compresses would take less room
			}
			for range c.prepare {
				publish(t, q, newJob(t, size))
			}
			refused := newJob(t, size)
			if _, _, err := q.Publish(t.Context(), refused); !errors.Is(err, c.want) || errors.Is(err, queue.ErrUncertain) {
				t.Errorf("Publish: expected %v, got %v", c.want, err)
			}
			tickets, err := q.PublishSheaf(t.Context(), newJobs(t, 2, size))
			if !errors.Is(err, c.want) || len(tickets) != 0 {
				t.Errorf("PublishSheaf: expected %v, got %d tickets and %v", c.want, len(tickets), err)
			}
			other := newJob(t, size)
			other.Tenant = "other"
			if _, _, err := q.Publish(t.Context(), other); (err == nil) != errors.Is(c.want, queue.ErrTenantFull) {
				t.Errorf("another tenant: %v", err)
			}
			// What is done makes room.
			if err := fetch(t, source(t, q, job.Interactive, "digits"), 1)[0].Ack(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "there is room again", func() bool {
				ticket, duplicate, err := q.Publish(t.Context(), refused)
				if duplicate {
					t.Fatal("a job that was refused is taken for a duplicate")
				}
				if err != nil {
					return false
				}
				_, err = q.Locate(t.Context(), ticket)
				return err == nil
			})
		})
	}
}

func TestAJobThatNoMessageHoldsIsRefusedUnsent(t *testing.T) {
	q := ready(t, nil)
	big := newJob(t, func(j *job.Job) {
		j.Inputs[0].Shape, j.Inputs[0].Data = []int64{1, 9 << 18}, make([]byte, 9<<20)
	})
	if _, _, err := q.Publish(t.Context(), big); !errors.Is(err, queue.ErrTooLarge) || errors.Is(err, queue.ErrUncertain) {
		t.Errorf("Publish: expected ErrTooLarge, got %v", err)
	}
	jobs := append(newJobs(t, 100, nil), big)
	tickets, err := q.PublishSheaf(t.Context(), jobs)
	if !errors.Is(err, queue.ErrTooLarge) || len(tickets) != 100 {
		t.Errorf("PublishSheaf: expected ErrTooLarge and the 100 tickets before it, got %v and %d", err, len(tickets))
	}
	almost := newJob(t, func(j *job.Job) { j.Inputs[0].Shape, j.Inputs[0].Data = []int64{1, 7 << 18}, make([]byte, 7<<20) })
	publish(t, q, almost)
}

func TestPublishWithoutAStreamSaysWhatToDo(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	cfg.Publish.Timeout = 200 * time.Millisecond
	q := connect(t, cfg)
	_, _, err := q.Publish(t.Context(), newJob(t, nil))
	if !errors.Is(err, queue.ErrUnavailable) || !strings.Contains(err.Error(), "-js") {
		t.Errorf("expected ErrUnavailable and what to do, got %v", err)
	}
}

func TestAClosedQueueRefuses(t *testing.T) {
	q := ready(t, nil)
	s := source(t, q, job.Interactive, "digits")
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
	if _, _, err := q.Publish(t.Context(), newJob(t, nil)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("publish: %v", err)
	}
	if _, err := q.PublishSheaf(t.Context(), newJobs(t, 2, nil)); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("publish a sheaf: %v", err)
	}
	if _, err := s.Fetch(t.Context(), 1, time.Second, func(*queue.Delivery) {}); !errors.Is(err, queue.ErrClosed) {
		t.Errorf("fetch: %v", err)
	}
}
