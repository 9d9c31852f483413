package main

import (
	"bytes"
	"context"
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
	for try := 0; ctx.Err() == nil; try++ {
		base := l.lab.api[rand.IntN(len(l.lab.api))] //nolint:gosec // which shim is asked needs no secrecy
		before := l.ledger.finished(e)
		status, body, err := l.post(ctx, base, i, e.row.body)
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
			if rand.IntN(20) > 0 || try > 20 { //nolint:gosec // as above
				return
			}
			// Now and then it is submitted once more, though the answer was clear.
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

func (l *load) post(ctx context.Context, base string, i int, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/models/"+modelName+"/jobs", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", strconv.Quote(l.key(i)))
	if i%4 == 0 {
		req.Header.Set("Prefer", "wait=2")
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
			if !yield(producer.Request{Model: modelName, Lane: lane, Inputs: entries[i].row.inputs}) {
				return
			}
		}
	}
	err := l.producer.SubmitAll(ctx, requests, func(i int, s producer.Submission, err error) {
		if err != nil {
			l.note("producer: " + err.Error())
			l.ledger.refuse(entries[i])
			return
		}
		l.ledger.accept(entries[i], s.Ticket.String(), time.Now())
	})
	if err != nil && ctx.Err() == nil {
		l.note("producer: " + err.Error())
	}
}
