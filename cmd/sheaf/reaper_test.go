package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// A worker that is killed while it ends what JetStream has given up, right after each of its steps, leaves what the
// next one ends: one failed record, one dead letter, no message.
func TestReaperIsKilled(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.DeadCopied, failpoint.DeadRecorded, failpoint.DeadSettled} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			c := newCemetery(t)
			ticket := c.strand(t)
			args := []string{
				"worker", "--models", repoPath("examples", "models"), "--nats-url", c.nats, "--redis-url", c.redis, "--sweep-interval", "50ms",
			}
			doomed := command(t, args...)
			doomed.Env = append(doomed.Env, armedAt(point, 1)...)
			if err := doomed.Run(); !diedByKill(err) {
				t.Fatalf("the worker was not killed: %v", err)
			}
			start(t, args...)
			eventually(t, func() error {
				lanes, err := c.queue.Lanes(t.Context())
				if err == nil && lanes[job.Interactive].Messages > 0 {
					err = fmt.Errorf("%d messages are left", lanes[job.Interactive].Messages)
				}
				return err
			})
			_, body := get(t, c.api+"/v1/jobs/"+ticket.String())
			if j := decodeJob(t, body); j.Status != "failed" || j.Error == nil || j.Error.Type != "/problems/exhausted" {
				t.Errorf("the job: %s", body)
			}
			letters := 0
			err := c.queue.DeadLetters(t.Context(), queue.DeadFilter{}, func(l *queue.DeadLetter) error {
				if letters++; len(l.Jobs) != 1 || l.Jobs[0] != ticket.ID {
					t.Errorf("letter %+v", l)
				}
				return nil
			})
			if err != nil || letters != 1 {
				t.Errorf("%d dead letters, %v", letters, err)
			}
		})
	}
}

// strand submits a job that JetStream then gives up, since nobody who fetches it ever answers.
func (c *cemetery) strand(t testing.TB) job.Ticket {
	t.Helper()
	cfg := queue.DefaultConfig()
	cfg.URL = c.nats
	cfg.Interactive.MaxDeliver, cfg.Interactive.AckWait = 2, 200*time.Millisecond
	q, err := queue.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if err := q.EnsureConsumer(t.Context(), job.Interactive, "digits"); err != nil {
		t.Fatal(err)
	}
	sources, err := q.Sources(t.Context(), job.Interactive, "digits")
	if err != nil {
		t.Fatal(err)
	}
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	j := job.Job{ID: id, Tenant: job.DefaultTenant, Model: "digits", CreatedAt: time.Now(), Inputs: []job.Tensor{fp32("x", heldout(t, "digits")[0].Input)}}
	ticket, _, err := q.Publish(t.Context(), &j)
	if err != nil {
		t.Fatal(err)
	}
	deliveries := 0
	eventually(t, func() error {
		for _, s := range sources {
			if _, err := s.Fetch(t.Context(), 1, 0, func(*queue.Delivery) { deliveries++ }); err != nil {
				return err
			}
		}
		_, running, err := q.Backlog(t.Context(), job.Interactive, "digits")
		if err == nil && (deliveries < 2 || running > 0) {
			err = fmt.Errorf("JetStream has not given the message up after %d deliveries", deliveries)
		}
		return err
	})
	return ticket
}
