package httpapi

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// endID is the id of the event that ends a stream: a client that comes back with it has nothing more to hear.
const endID = "end"

// getJobEvents answers GET /v1/jobs/{id}/events.
func (a *API) getJobEvents(w *response, r *http.Request) error {
	return a.events(w, r, []string{r.PathValue("id")})
}

// getEvents answers GET /v1/jobs/events?id=….
func (a *API) getEvents(w *response, r *http.Request) error {
	query, err := queryOf(r)
	if err != nil {
		return err
	}
	ids := query["id"]
	if err := checkIDs(ids, a.cfg.Streams.EventsMaxIDs); err != nil {
		return err
	}
	return a.events(w, r, ids)
}

// postEvents answers POST /v1/jobs/events.
func (a *API) postEvents(w *response, r *http.Request) error {
	list, err := a.readIDs(w, r, a.cfg.Streams.EventsMaxIDs)
	if err != nil {
		return err
	}
	if list.Outputs != nil {
		return malformed("outputs", "not a member of this request")
	}
	return a.events(w, r, list.IDs)
}

// events answers with server-sent events: one for each job at once, one for each change of its state, and one at the end.
func (a *API) events(w *response, r *http.Request, ids []string) error {
	if r.Header.Get("Last-Event-Id") == endID {
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent) // an EventSource does not come back then
		return nil
	}
	tickets, faults := ticketsOf(ids)
	known := make([]job.Ticket, 0, len(tickets))
	for i, t := range tickets {
		if faults[i] == nil {
			known = append(known, t)
		}
	}
	watch, err := a.jobs.Watch(a.scope(r), known)
	if err != nil {
		return err
	}
	defer watch.Close()
	s := &eventStream{a: a, r: r, stream: stream{w: w, rc: http.NewResponseController(w.ResponseWriter), slow: a.cfg.BodyTimeout}}
	for i, id := range ids {
		if fault := faults[i]; fault != nil {
			s.event("job", "", appendMissing(nil, id, fault))
		}
	}
	return s.run(watch)
}

// eventStream is one answer of events.
type eventStream struct {
	stream
	a     *API
	r     *http.Request
	count int
	begun bool // something was sent
}

// run sends what a watch tells of, until its jobs are finished, the stream has lasted long enough, or the server goes
// down. In the last two cases the client comes back.
func (s *eventStream) run(watch *gateway.Watch) error {
	ctx, cfg := s.r.Context(), &s.a.cfg.Streams
	// net/http would take the end of its own read deadline for the client's leaving.
	_ = s.rc.SetReadDeadline(time.Time{})
	over := time.Now().Add(cfg.EventsMaxTime)
	for watch.Left() > 0 {
		if s.r.Method == http.MethodHead && s.begun {
			return nil
		}
		quiet := s.count
		err := watch.Next(ctx, min(cfg.EventsHeartbeat, time.Until(over)), s.change)
		if err != nil && s.count == 0 || errors.Is(err, gateway.ErrClientGone) {
			return err
		}
		if err == nil && s.count == quiet && s.begun {
			s.b = append(s.b, ":\n\n"...)
		}
		if lost := s.send(); lost != nil {
			return lost
		}
		if err != nil || !time.Now().Before(over) {
			return nil //nolint:nilerr // the client is told by the end of the stream
		}
	}
	s.event("end", endID, []byte("{}"))
	return s.send()
}

// change sends what has become known of a job.
func (s *eventStream) change(c gateway.Change) error {
	if c.Err != nil {
		s.event("job", "", appendMissing(nil, c.Ticket.String(), c.Err))
	} else {
		if !c.Job.State.Terminal() {
			s.a.jobs.Foresee(s.r.Context(), c.Job)
		}
		s.event("job", "", appendJob(make([]byte, 0, sizeHint(c.Job)), c.Job))
	}
	if len(s.b) < lookupFlush {
		return nil
	}
	return s.send()
}

// event adds an event to what is sent next. The id is its number, unless it is given.
func (s *eventStream) event(name, id string, data []byte) {
	s.count++
	if id == "" {
		id = strconv.Itoa(s.count)
	}
	s.b = append(s.b, "event: "...)
	s.b = append(s.b, name...)
	s.b = append(s.b, "\nid: "...)
	s.b = append(s.b, id...)
	s.b = append(s.b, "\ndata: "...)
	s.b = append(s.b, data...) // JSON without line ends
	s.b = append(s.b, "\n\n"...)
}

// send sends what there is, after the headers.
func (s *eventStream) send() error {
	if !s.begun {
		s.begun = true
		h := s.w.Header()
		h.Set("Content-Type", "text/event-stream")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Accel-Buffering", "no")
		// Those whose server goes down do not all come back in one moment.
		const least, spread = 1000, 2000
		first := "retry: " + strconv.Itoa(least+rand.IntN(spread)) + "\n\n" //nolint:gosec // a spread needs no secrecy
		s.b = append([]byte(first), s.b...)
	}
	return s.flush()
}
