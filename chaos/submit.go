package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// submitHTTP submits job i at any shim until the answer is clear. Its key makes every try the same job.
func (l *load) submitHTTP(ctx context.Context, i int) {
	e := l.ledger.begin("http", l.row(i), job.DerivedID(job.DefaultTenant, l.key(i)))
	hurried := l.hurried()
	for try := 0; ctx.Err() == nil; try++ {
		var deadline time.Time
		if hurried {
			deadline = soon()
			l.ledger.hurry(e, deadline)
		}
		base := l.lab.api[rand.IntN(len(l.lab.api))] //nolint:gosec // which shim is asked needs no secrecy
		before := l.ledger.finished(e)
		status, body, err := l.post(ctx, base, i, e.row.body, deadline)
		switch {
		case err != nil: // out of reach, or cut off
			l.ledger.doubt(e)
		case status == http.StatusOK || status == http.StatusAccepted:
			id, o, err := ofJSON(body)
			if err != nil {
				l.note(fmt.Sprintf("submit: status %d: %v", status, err))
				l.ledger.doubt(e)
				break
			}
			l.ledger.accept(e, id, time.Now())
			if before && !o.terminal() {
				l.ledger.outdated() // an acceptance, not a look-up
			} else {
				l.ledger.saw(e, before, &o, "submit to "+base)
			}
			if rand.Float64() < l.cfg.cancels { //nolint:gosec // as above
				l.cancel(ctx, e)
			}
			if rand.IntN(20) > 0 || try > 20 { //nolint:gosec // as above
				return
			}
			// Now and then it is submitted once more, though the answer was clear.
		case status == http.StatusUnprocessableEntity && hurried:
			l.ledger.doubt(e) // the deadline had passed when the request arrived
		case status == http.StatusTooManyRequests || status >= 500:
			l.ledger.doubt(e) // 503 says that NATS is out of reach; the job may have been stored all the same
			if i%50 == 0 {
				return // some clients give up
			}
		default:
			l.note(fmt.Sprintf("submit: status %d: %s", status, body))
			l.ledger.refuse(e)
			return
		}
		sleep(ctx, time.Duration(50+rand.IntN(400))*time.Millisecond) //nolint:gosec // as above
	}
}

// hurried decides whether a job has a short deadline.
func (l *load) hurried() bool { return rand.Float64() < l.cfg.deadlines } //nolint:gosec // needs no secrecy

// soon is a short deadline.
func soon() time.Time {
	return time.Now().Add(time.Duration(500+rand.IntN(2500)) * time.Millisecond) //nolint:gosec // needs no secrecy
}

// cancel cancels a job at any shim. A clear answer is a sighting like any other: it must stand.
func (l *load) cancel(ctx context.Context, e *entry) {
	l.ledger.cancel(e)
	base := l.lab.api[rand.IntN(len(l.lab.api))] //nolint:gosec // which shim is asked needs no secrecy
	before := l.ledger.finished(e)
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, base+"/v1/jobs/"+e.ticket, nil)
	if err != nil {
		l.note("cancel: " + err.Error())
		return
	}
	status, body, err := l.do(req)
	switch {
	case err != nil, status == http.StatusTooManyRequests, status >= 500: // it may have been canceled or not
	case status == http.StatusConflict: // it was finished otherwise, as the result store says
	case status == http.StatusNotFound:
		l.ledger.vanished(e, "cancel at "+base)
	case status == http.StatusOK:
		id, o, err := ofJSON(body)
		if err != nil || id != e.ticket || o.state != job.Canceled.String() {
			l.note(fmt.Sprintf("cancel: the answer for %s says %q of %s (%v)", e.ticket, o.state, id, err))
			return
		}
		l.ledger.saw(e, before, &o, "cancel at "+base)
	default:
		l.note(fmt.Sprintf("cancel: status %d: %s", status, body))
	}
}

func (l *load) post(ctx context.Context, base string, i int, body []byte, deadline time.Time) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/models/"+modelName+"/jobs", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", strconv.Quote(l.key(i)))
	if i%4 == 0 {
		req.Header.Set("Prefer", "wait=2")
	}
	if !deadline.IsZero() {
		req.Header.Set(job.HeaderDeadline, strconv.FormatInt(deadline.UnixMilli(), 10))
	}
	return l.do(req)
}

func (l *load) do(req *http.Request) (int, []byte, error) {
	resp, err := l.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp.StatusCode, body, err
}

// submitBulk hands a burst of jobs to the producer, which waits where NATS is away.
func (l *load) submitBulk(ctx context.Context, b burst) {
	via, lane := "interactive", job.Interactive
	if b.bulk {
		via, lane = "bulk", job.Bulk
	}
	entries := make([]*entry, b.n)
	for i := range entries {
		entries[i] = l.ledger.begin(via, l.row(b.first+i), job.ID{})
	}
	requests := func(yield func(producer.Request) bool) {
		for i := range entries {
			r := producer.Request{Model: modelName, Lane: lane, Inputs: entries[i].row.inputs}
			if l.hurried() {
				r.Deadline = soon()
				l.ledger.hurry(entries[i], r.Deadline)
			}
			if !yield(r) {
				return
			}
		}
	}
	err := l.producer.SubmitAll(ctx, requests, func(i int, s producer.Submission, err error) {
		if err != nil {
			if !errors.Is(err, producer.ErrTooLate) {
				l.note("producer: " + err.Error())
			}
			l.ledger.refuse(entries[i])
			return
		}
		l.ledger.accept(entries[i], s.Ticket.String(), time.Now())
	})
	if err != nil && ctx.Err() == nil {
		l.note("producer: " + err.Error())
	}
}
