package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

const (
	defaultDeadPage = 50
	maxDeadPage     = 1000
)

// selectionOf reads the filter of a query; left holds what is no part of it.
func selectionOf(q url.Values, left ...string) (DeadSelection, error) {
	s := DeadSelection{
		Lane: q.Get("lane"), Model: q.Get("model"), Tenant: q.Get("tenant"), Reason: q.Get("reason"), Code: q.Get("code"),
		OlderThan: q.Get("older_than"), NewerThan: q.Get("newer_than"), Job: q.Get("job"),
	}
	known := append(left, "lane", "model", "tenant", "reason", "code", "older_than", "newer_than", "job", "seqs", "max_seq")
	for name := range q {
		if !slices.Contains(known, name) {
			return s, malformed(model.Excerpt(name), "not a parameter of this route")
		}
	}
	for _, text := range q["seqs"] {
		seq, err := ParseSeq(text)
		if err != nil {
			return s, err
		}
		s.Seqs = append(s.Seqs, seq)
	}
	if text := q.Get("max_seq"); text != "" {
		seq, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return s, malformed("max_seq", "expected the number of a dead letter")
		}
		s.MaxSeq = seq
	}
	return s, nil
}

// listDead answers GET /v1/admin/dead: a page of the letters that match, and how many do in all.
func (a *API) listDead(w *response, r *http.Request) error {
	q, err := queryOf(r)
	if err != nil {
		return err
	}
	s, err := selectionOf(q, "limit", "cursor")
	if err != nil {
		return err
	}
	limit, after := defaultDeadPage, uint64(0)
	if text := q.Get("limit"); text != "" {
		if limit, err = strconv.Atoi(text); err != nil || limit < 0 || limit > maxDeadPage {
			return malformed("limit", fmt.Sprintf("expected 0 to %d", maxDeadPage))
		}
	}
	if text := q.Get("cursor"); text != "" {
		if after, err = ParseSeq(text); err != nil {
			return malformed("cursor", "expected the cursor of the page before")
		}
	}
	f, err := s.Filter(time.Now())
	if err != nil {
		return oneFault(err)
	}
	list := DeadList{MaxSeq: f.MaxSeq, Letters: []DeadLetter{}}
	err = a.deps.Operator.DeadLetters(r.Context(), f, func(l *queue.DeadLetter) error {
		list.Count++
		list.MaxSeq = l.Seq
		switch {
		case l.Seq <= after:
		case len(list.Letters) < limit:
			list.Letters = append(list.Letters, NewDeadLetter(l))
		case limit > 0 && list.Cursor == "":
			list.Cursor = strconv.FormatUint(list.Letters[limit-1].Seq, 10)
		}
		return nil
	})
	if err != nil {
		return adminError(err)
	}
	return marshal(w, http.StatusOK, &list)
}

// oneFault returns the first fault of several as what it is; its detail has all of them.
func oneFault(err error) error {
	var e *job.Error
	if errors.As(err, &e) && err.Error() != e.Error() {
		return job.Invalidf("", "%v", err)
	}
	return err
}

// getDead answers GET /v1/admin/dead/{seq}.
func (a *API) getDead(w *response, r *http.Request) error {
	seq, err := ParseSeq(r.PathValue("seq"))
	if err != nil {
		return err
	}
	q, err := queryOf(r)
	if err != nil {
		return err
	}
	data := false
	if text := q.Get("data"); text != "" {
		if data, err = strconv.ParseBool(text); err != nil {
			return malformed("data", "expected true or false")
		}
	}
	l, err := a.deps.Operator.DeadLetterAt(r.Context(), seq)
	if errors.Is(err, job.ErrNotFound) {
		return &gateway.Problem{Code: codeUnknownLetter, Detail: fmt.Sprintf("there is no dead letter %d: it was requeued or purged, or its time is over", seq)}
	}
	if err != nil {
		return adminError(err)
	}
	return marshal(w, http.StatusOK, NewWholeDeadLetter(l, data))
}

// deadAct is the body of a requeue or a purge.
type deadAct struct {
	DeadSelection
	// Confirm is the count that the caller was shown.
	Confirm *int `json:"confirm" nullable:"false"`
	// Deadline is the new jobs': RFC 3339, or a duration from now. None: they have none of their own.
	Deadline string `json:"deadline,omitempty"`
}

func (a *API) requeueDead(w *response, r *http.Request) error {
	return a.actOnDead(w, r, DeadRequeued, func(ctx context.Context, f queue.DeadFilter, deadline time.Time, tell func(queue.DeadOutcome) error) error {
		return a.deps.Operator.RequeueDead(ctx, f, deadline, tell)
	})
}

func (a *API) purgeDead(w *response, r *http.Request) error {
	return a.actOnDead(w, r, DeadPurged, func(ctx context.Context, f queue.DeadFilter, _ time.Time, tell func(queue.DeadOutcome) error) error {
		return a.deps.Operator.PurgeDead(ctx, f, tell)
	})
}

// actOnDead counts what matches, compares that with what the caller was shown, and acts on it, and on nothing that came
// after the count. The answer is a line of JSON for each letter, and a last one with the sums.
func (a *API) actOnDead(w *response, r *http.Request, done string, act func(context.Context, queue.DeadFilter, time.Time, func(queue.DeadOutcome) error) error) error {
	var body deadAct
	if err := a.readAdmin(w, r, &body); err != nil {
		return err
	}
	now := time.Now()
	f, err := body.Filter(now)
	if err != nil {
		return oneFault(err)
	}
	deadline, err := parseAhead("deadline", body.Deadline, now)
	if err != nil {
		return err
	}
	count, last := 0, uint64(0)
	counting, cancel := a.adminTime(r.Context())
	defer cancel()
	if err := a.deps.Operator.DeadLetters(counting, f, func(l *queue.DeadLetter) error {
		count++
		last = l.Seq
		return nil
	}); err != nil {
		return adminError(err)
	}
	if body.Confirm == nil || *body.Confirm != count {
		detail := fmt.Sprintf(`%d dead letters match now; expected the member "confirm" to have that number`, count)
		if body.Confirm != nil {
			detail = fmt.Sprintf(`%d dead letters match now, and "confirm" says %d: look again`, count, *body.Confirm)
		}
		return &gateway.Problem{Code: codeCountChanged, Field: "confirm", Detail: detail, Count: &count}
	}
	out := newDeadStream(a, w)
	if count == 0 {
		out.end()
		return nil
	}
	f.MaxSeq = last
	err = act(r.Context(), f, deadline, func(o queue.DeadOutcome) error { return out.event(NewDeadEvent(o, done)) })
	if err != nil {
		out.sum.Error = gateway.ProblemOf(adminError(err)).Detail
	}
	a.acted(r, done, slog.Any("filter", body.DeadSelection), slog.Int("matched", count), slog.Int("done", out.sum.Done),
		slog.Int("jobs", out.sum.Jobs), slog.Int("skipped", out.sum.Skipped), slog.Int("failed", out.sum.Failed), slog.String("error", out.sum.Error))
	out.end()
	return nil
}

// deadStream writes the lines of an answer as they come.
type deadStream struct {
	enc     *json.Encoder
	rc      *http.ResponseController
	slow    time.Duration
	flushed time.Time
	sum     DeadSummary
}

func newDeadStream(a *API, w *response) *deadStream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	return &deadStream{enc: json.NewEncoder(w), rc: http.NewResponseController(w.ResponseWriter), slow: a.longestCall() + slack, flushed: time.Now()}
}

// flushEvery is how often a client hears of the progress.
const flushEvery = 200 * time.Millisecond

func (s *deadStream) event(e DeadEvent) error {
	s.sum.Add(&e)
	if err := s.enc.Encode(&e); err != nil {
		return fmt.Errorf("%w: %w", gateway.ErrClientGone, err)
	}
	if time.Since(s.flushed) > flushEvery {
		s.flush()
	}
	return nil
}

func (s *deadStream) flush() {
	s.flushed = time.Now()
	// Where the writer below can do neither, as in tests, nothing is slow.
	_ = s.rc.SetWriteDeadline(s.flushed.Add(s.slow))
	_ = s.rc.Flush()
}

func (s *deadStream) end() {
	_ = s.enc.Encode(&DeadEvent{Done: &s.sum})
	s.flush()
}
