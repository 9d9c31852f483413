package queue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/sheafml/sheaf/job"
)

// Publish accepts one job, in a message with whatever else is being published for its lane, model and tenant. A nil
// error says that the job is stored. duplicate says that it was there already, under the same ID; the ticket is then
// the first one's. The error may be marked with [ErrUncertain]; publishing the same job again is always safe.
//
// If ctx ends, Publish returns, and the message takes its course without it.
func (q *Queue) Publish(ctx context.Context, j *job.Job) (t job.Ticket, duplicate bool, err error) {
	if err := checkJob(j); err != nil {
		return job.Ticket{}, false, err
	}
	if err := ctx.Err(); err != nil {
		return job.Ticket{}, false, fmt.Errorf("publish: %w", err)
	}
	scratch, _ := buffers.Get().(*[]byte)
	if scratch == nil {
		scratch = new([]byte)
	}
	body := job.AppendJob((*scratch)[:0], j)
	defer func() {
		*scratch = body[:0]
		if cap(body) <= keepBytes {
			buffers.Put(scratch)
		}
	}()
	if err := q.checkSize(len(body)); err != nil {
		q.metrics.countPublished(j.Lane, 1, false, err)
		return job.Ticket{}, false, err
	}
	if j.Idempotent {
		return q.storeAlone(ctx, j, body)
	}
	return q.join(ctx, j, body)
}

// buffers are reused for encoding; larger ones than keepBytes are left to the garbage collector.
var buffers sync.Pool

const keepBytes = 512 << 10

func checkJob(j *job.Job) error {
	switch {
	case j.ID.IsZero():
		return job.Invalidf("id", "a job needs an ID")
	case j.Lane > job.Bulk:
		return job.Invalidf("lane", "no such lane")
	case !job.ValidName(j.Model):
		return job.Invalidf("model", "not a valid name of a model")
	case !job.ValidName(j.Tenant):
		return job.Invalidf("tenant", "not a valid name of a tenant")
	}
	return nil
}

// message makes the message of one or more jobs. A job that is alone is stored under its own ID, so that the server
// knows a repeated submit. Several jobs get an ID that is used once: were it the first job's, then a job published
// again, in other company, would make the server take the whole message for one that it has.
func (q *Queue) message(ctx context.Context, k subjectKey, first job.ID, jobs int, body []byte) (*nats.Msg, error) {
	if jobs > 1 {
		var err error
		if first, err = job.NewID(); err != nil {
			return nil, err
		}
	}
	m := &nats.Msg{
		Subject: q.route(ctx, k),
		Header: nats.Header{
			job.HeaderID:          {first.String()},
			job.HeaderContentType: {job.ContentTypeSheaf},
		},
		Data: body,
	}
	pack(m)
	return m, nil
}

// store publishes one message and counts it.
func (q *Queue) store(ctx context.Context, k subjectKey, first job.ID, jobs int, body []byte) (ack, error) {
	m, err := q.message(ctx, k, first, jobs, body)
	if err != nil {
		return ack{}, err
	}
	q.payload.Store(q.conn.MaxPayload()) // the server may have come to another one
	start := time.Now()
	a, err := q.send(ctx, m)
	q.observe(k.lane, jobs, start, a, err)
	return a, err
}

// storeAlone publishes one job in a message of its own.
func (q *Queue) storeAlone(ctx context.Context, j *job.Job, body []byte) (job.Ticket, bool, error) {
	if !q.enter() {
		return job.Ticket{}, false, ErrClosed
	}
	defer q.running.Done()
	a, err := q.store(ctx, keyOf(j), j.ID, 1, body)
	if err != nil {
		return job.Ticket{}, false, err
	}
	return job.Ticket{ID: j.ID, Lane: j.Lane, Seq: a.seq, Fingerprint: j.Fingerprint}, a.duplicate, nil
}

func (q *Queue) observe(lane job.Lane, jobs int, start time.Time, a ack, err error) {
	q.metrics.countPublished(lane, jobs, a.duplicate, err)
	if err == nil {
		q.metrics.lanes[lane].publishSeconds.Observe(time.Since(start).Seconds())
		q.metrics.lanes[lane].messageJobs.Observe(float64(jobs))
	}
}
