package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// idList is the body of a request that is about many jobs.
type idList struct {
	IDs     []string `json:"ids"`
	Outputs *bool    `json:"outputs"`
}

// readIDs reads such a body.
func (a *API) readIDs(w *response, r *http.Request, most int) (*idList, error) {
	body, release, err := a.body(w, r, "")
	if err != nil {
		return nil, err
	}
	defer release()
	var list idList
	if err := decodeKnown(body, &list); err != nil {
		return nil, &gateway.Problem{Code: job.CodeMalformed, Cause: err, Detail: `expected {"ids": ["…"]} with the ids of jobs, and nothing else that the route does not know`}
	}
	return &list, checkIDs(list.IDs, most)
}

func checkIDs(ids []string, most int) error {
	switch {
	case len(ids) == 0:
		return job.Invalidf("ids", "expected the id of at least one job")
	case len(ids) > most:
		return &gateway.Problem{Code: job.CodeTooLarge, Field: "ids", Detail: fmt.Sprintf("expected the ids of at most %d jobs, got %d", most, len(ids))}
	}
	if i := slices.Index(ids, ""); i >= 0 {
		return job.Invalidf(fmt.Sprintf("ids[%d]", i), "expected the id of a job, got nothing")
	}
	return nil
}

// ticketsOf reads tickets. Those that are none are zero, and their errors in faults, by place.
func ticketsOf(ids []string) (tickets []job.Ticket, faults map[int]error) {
	tickets, faults = make([]job.Ticket, len(ids)), map[int]error{}
	for i, id := range ids {
		t, err := job.ParseTicket(id)
		if err != nil {
			faults[i] = &gateway.Problem{Code: gateway.CodeUnknownJob, Detail: err.Error()}
		}
		tickets[i] = t
	}
	return tickets, faults
}

// appendMissing appends what is said of a job of which nothing can be said.
func appendMissing(b []byte, id string, err error) []byte {
	o := object{b: append(b, '{')}
	o.string("id", id)
	o.key("error")
	o.b = appendProblem(o.b, gateway.ProblemOf(err))
	return o.end()
}

// lookup answers POST /v1/jobs/lookup: a line for each id, in order.
func (a *API) lookup(w *response, r *http.Request) error {
	list, err := a.readIDs(w, r, a.cfg.Streams.LookupMaxIDs)
	if err != nil {
		return err
	}
	tickets, faults := ticketsOf(list.IDs)
	outputs := list.Outputs == nil || *list.Outputs
	w.Header().Set("Content-Type", mediaLines)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	s := stream{w: w, rc: http.NewResponseController(w.ResponseWriter), slow: a.cfg.BodyTimeout}
	_ = s.rc.SetReadDeadline(time.Time{}) // its end would count as the client's leaving
	ctx := r.Context()
	err = a.jobs.FindAll(ctx, a.scope(r), tickets, func(i int, v *gateway.Job, err error) error {
		if fault := faults[i]; fault != nil {
			err = fault
		}
		if err != nil {
			s.b = append(appendMissing(s.b, list.IDs[i], err), '\n')
			return s.flushFrom(lookupFlush)
		}
		if !v.State.Terminal() {
			a.jobs.Foresee(ctx, v)
		}
		s.b = append(appendJobWith(s.b, v, outputs), '\n')
		return s.flushFrom(lookupFlush)
	})
	if err != nil {
		return err
	}
	return s.flush()
}

// lookupFlush is how many bytes of a look-up are sent together.
const lookupFlush = 64 << 10

// stream writes an answer piece by piece, to a client that reads each within the time for that.
type stream struct {
	w    *response
	rc   *http.ResponseController
	slow time.Duration
	b    []byte // not sent yet
}

// flushFrom is flush, once there is that much to be sent.
func (s *stream) flushFrom(size int) error {
	if len(s.b) < size {
		return nil
	}
	return s.flush()
}

func (s *stream) flush() error {
	// Where the writer below can do neither, as in tests, nothing is slow.
	_ = s.rc.SetWriteDeadline(time.Now().Add(s.slow))
	_, err := s.w.Write(s.b)
	if s.b = s.b[:0]; cap(s.b) > maxPooled {
		s.b = nil
	}
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("%w: %w", gateway.ErrClientGone, err)
	}
	return nil
}
