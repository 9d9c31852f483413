package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// Locate finds a job's message and says whether the job waits or has been delivered, and what its message says of it.
// It returns job.ErrNotFound if the stream does not hold the job; the stream's leader is asked before that counts. What
// was found is remembered for a moment, so that polling does not cost a look-up each time.
//
// Ahead is an upper bound as long as workers take the shares of the tenants in turn: the messages in front of it in its
// own share, and as many of each other share, if so many wait there.
func (q *Queue) Locate(ctx context.Context, t job.Ticket) (job.Location, error) {
	if t.Bare() || t.Lane > job.Bulk {
		return job.Location{}, job.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	at, ok := q.found.get(t, time.Now())
	if !ok {
		m, err := q.find(ctx, t)
		if err != nil {
			return job.Location{}, err
		}
		at = m.place
		q.found.put(t, at, time.Now())
	}
	p, err := q.cachedProgress(ctx, t.Lane, at.model)
	if err != nil {
		return job.Location{}, err
	}
	loc := job.Location{State: job.Queued, Tenant: at.tenant, Model: at.model, CreatedAt: at.CreatedAt, Deadline: at.Deadline, Fingerprint: at.Fingerprint, Webhook: at.Webhook}
	delivered, ahead := p.place(t.Seq, at.share)
	if delivered {
		loc.State = job.Running
	}
	loc.Ahead = int(min(ahead, math.MaxInt32))
	return loc, nil
}

// stored is a message as a stream keeps it.
type stored struct {
	env job.Envelope
	place
}

// find fetches the message that the ticket names, if it carries the job.
func (q *Queue) find(ctx context.Context, t job.Ticket) (*stored, error) {
	m, err := q.directGet(ctx, t)
	if errors.Is(err, job.ErrNotFound) {
		m, err = q.leaderGet(ctx, t) // the replica that answered may lag
	}
	if err != nil {
		return nil, err
	}
	var ok bool
	if m.Peek, ok = job.PeekJob(&m.env, t.ID, t.Index); !ok {
		return nil, job.ErrNotFound
	}
	return m, nil
}

func bySequence(seq uint64) []byte {
	return append(strconv.AppendUint([]byte(`{"seq":`), seq, 10), '}')
}

// askTime is how long one question waits for its answer.
const askTime = time.Second

// askAgain asks until there is an answer or ctx ends: a server that was just lost, and a cluster without a leader,
// answer nothing at all, and what was asked then must be asked again.
func askAgain[T any](ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	for {
		once, cancel := context.WithTimeout(ctx, askTime)
		answer, err := ask(once)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, nats.ErrTimeout) {
			return answer, err
		}
	}
}

// directGet asks any replica for the message.
func (q *Queue) directGet(ctx context.Context, t job.Ticket) (*stored, error) {
	m, err := askAgain(ctx, func(ctx context.Context) (*nats.Msg, error) {
		return q.conn.RequestWithContext(ctx, q.api+"DIRECT.GET."+t.Lane.String(), bySequence(t.Seq))
	})
	if errors.Is(err, nats.ErrNoResponders) {
		return nil, job.ErrNotFound // no stream, or none with direct access: the leader says which
	}
	if err != nil {
		return nil, requestError("look up a job", err)
	}
	if m.Header.Get("Status") != "" || m.Header.Get("Nats-Subject") == "" {
		return nil, job.ErrNotFound
	}
	published, err := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err != nil {
		return nil, fmt.Errorf("look up a job: the time of its message: %w", err)
	}
	return newStored(m.Header.Get("Nats-Subject"), published, m.Header, m.Data)
}

// leaderGet asks the stream's leader for the message.
func (q *Queue) leaderGet(ctx context.Context, t job.Ticket) (*stored, error) {
	m, err := askAgain(ctx, func(ctx context.Context) (*nats.Msg, error) {
		return q.conn.RequestWithContext(ctx, q.api+"STREAM.MSG.GET."+t.Lane.String(), bySequence(t.Seq))
	})
	if err != nil {
		return nil, requestError("look up a job", err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string    `json:"subject"`
			Header  []byte    `json:"hdrs"`
			Data    []byte    `json:"data"`
			Time    time.Time `json:"time"`
		} `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return nil, fmt.Errorf("look up a job: the answer is not JetStream's: %w", err)
	}
	if r.Error != nil {
		switch r.Error.ErrorCode {
		case jetstream.JSErrCodeMessageNotFound:
			return nil, job.ErrNotFound
		case jetstream.JSErrCodeStreamNotFound:
			return nil, fmt.Errorf("look up a job: stream %s does not exist", t.Lane)
		}
		_, err := publishError(r.Error)
		return nil, fmt.Errorf("look up a job: %w", err)
	}
	var h nats.Header
	if len(r.Message.Header) > 0 {
		if h, err = nats.DecodeHeadersMsg(r.Message.Header); err != nil {
			return nil, fmt.Errorf("look up a job: the message's headers: %w", err)
		}
	}
	return newStored(r.Message.Subject, r.Message.Time, h, r.Message.Data)
}

func newStored(subject string, published time.Time, h nats.Header, body []byte) (*stored, error) {
	lane, model, tenant, ok := parseSubject(subject)
	if !ok {
		return nil, job.ErrNotFound
	}
	_, share := cutShare(subject)
	return &stored{
		env:   job.Envelope{Lane: lane, Model: model, Tenant: tenant, Published: published, Header: h.Get, Body: unpack(h, body)},
		place: place{tenant: tenant, model: model, share: share},
	}, nil
}

// Remove deletes the job's message if the job is alone in it; false if it is gone, has company, or is to be answered to an
// inbox, which a worker does.
func (q *Queue) Remove(ctx context.Context, t job.Ticket) (bool, error) {
	if t.Bare() || t.Lane > job.Bulk {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	m, err := q.find(ctx, t)
	if errors.Is(err, job.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	lim := job.DefaultLimits()
	lim.MaxBytes = max(lim.MaxBytes, len(m.env.Body))
	jobs, err := job.DecodeMessage(&m.env, lim)
	if err != nil || len(jobs) != 1 || jobs[0].Job.ID != t.ID || jobs[0].Job.Reply != "" {
		return false, nil //nolint:nilerr // what cannot be read whole, or wants an answer, is the worker's to settle
	}
	return q.deleteMessage(ctx, t)
}

func (q *Queue) deleteMessage(ctx context.Context, t job.Ticket) (bool, error) {
	body := append(strconv.AppendUint([]byte(`{"no_erase":true,"seq":`), t.Seq, 10), '}')
	m, err := q.conn.RequestWithContext(ctx, q.api+"STREAM.MSG.DELETE."+t.Lane.String(), body)
	if err != nil {
		return false, requestError("remove a job", err)
	}
	var r struct {
		Error   *jetstream.APIError `json:"error"`
		Success bool                `json:"success"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return false, fmt.Errorf("remove a job: the answer is not JetStream's: %w", err)
	}
	if r.Error != nil {
		if r.Error.ErrorCode == codeDeleteFailed || r.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return false, nil // it was settled in the meantime
		}
		return false, fmt.Errorf("remove a job: %s (JetStream error %d)", r.Error.Description, r.Error.ErrorCode)
	}
	q.found.drop(t)
	return r.Success, nil
}
