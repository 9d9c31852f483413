package queue_test

import (
	"errors"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func TestAJobIsPublishedDeliveredAndAcknowledged(t *testing.T) {
	q := ready(t, nil)
	s := tenantSource(t, q, job.Interactive, "digits.v2", "acme.eu")
	j := newJob(t, func(j *job.Job) { j.Model, j.Tenant = "digits.v2", "acme.eu" })
	before := time.Now()
	ticket := publish(t, q, j)

	if l, err := q.Locate(t.Context(), ticket); err != nil || l.State != job.Queued || l.Ahead != 0 {
		t.Fatalf("locate before delivery: expected queued with none ahead, got %v, %v", l, err)
	}
	d := fetch(t, s, 1)[0]
	env := d.Envelope
	if env.Lane != j.Lane || env.Model != j.Model || env.Tenant != j.Tenant {
		t.Errorf("envelope: got %v %q %q", env.Lane, env.Model, env.Tenant)
	}
	if env.Header(job.HeaderContentType) != job.ContentTypeSheaf || env.Header(job.HeaderID) != j.ID.String() || env.Header("absent") != "" {
		t.Errorf("headers: content type %q, ID %q", env.Header(job.HeaderContentType), env.Header(job.HeaderID))
	}
	if env.Published.Before(before.Add(-time.Minute)) || env.Published.After(time.Now().Add(time.Minute)) {
		t.Errorf("published at %v", env.Published)
	}
	if d.Seq != ticket.Seq || d.Attempt != 1 {
		t.Errorf("expected sequence %d and attempt 1, got %d and %d", ticket.Seq, d.Seq, d.Attempt)
	}
	if ids := decode(t, d); len(ids) != 1 || ids[0] != j.ID {
		t.Errorf("decoded %v, expected %v", ids, j.ID)
	}
	eventually(t, "the job is running", func() bool {
		l, err := q.Locate(t.Context(), ticket)
		return err == nil && l.State == job.Running
	})
	if err := d.Ack(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job is gone", func() bool {
		_, err := q.Locate(t.Context(), ticket)
		return errors.Is(err, job.ErrNotFound)
	})
	if err := d.Retry(0); !errors.Is(err, queue.ErrLapsed) {
		t.Errorf("retry after the ack: expected ErrLapsed, got %v", err)
	}
}
