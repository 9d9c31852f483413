package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
)

// mediaLines is the media type of bodies with one JSON document a line.
const mediaLines = "application/x-ndjson"

// checkLines refuses a body that is not lines of JSON. No type at all is taken for them.
func checkLines(h http.Header) error {
	media := h.Get("Content-Type")
	if params := strings.IndexByte(media, ';'); params >= 0 {
		media = media[:params]
	}
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "", mediaLines, "application/ndjson", "application/jsonl", "application/jsonlines":
	default:
		return &gateway.Problem{Code: gateway.CodeMediaType, Field: "Content-Type", Detail: "expected " + mediaLines + ": one JSON document a line"}
	}
	if coding := h.Get("Content-Encoding"); coding != "" && !strings.EqualFold(coding, "identity") {
		return &gateway.Problem{Code: gateway.CodeMediaType, Field: "Content-Encoding", Detail: "expected a body that is not compressed"}
	}
	return nil
}

// bulkRequest is one request for the bulk route.
type bulkRequest struct {
	a        *API
	request  gateway.Submission // what all lines have in common
	form     form
	key      string
	lane     string // of the query
	out      *answers
	accepted int
	refused  int
}

// bulk answers POST …/bulk: a job for each line of the body, and a line of the answer for each, while the body still comes.
func (a *API) bulk(w *response, r *http.Request) error {
	b, err := a.bulkOf(r)
	if err != nil {
		return err
	}
	select {
	case <-a.jobs.Closed():
		return &gateway.Problem{Code: gateway.CodeUnavailable, Busy: true, Detail: "this server is going down; try again"}
	default:
	}
	select {
	case a.bulks <- struct{}{}:
		defer func() { <-a.bulks }()
	default:
		return &gateway.Problem{Code: gateway.CodeBusy, Busy: true, Detail: "as many bulk requests as allowed are in hand already; try again later"}
	}
	rc := http.NewResponseController(w.ResponseWriter)
	_ = rc.EnableFullDuplex() // where it is not known, as in tests, the body is there already
	w.Header().Set("Content-Type", mediaLines)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	// A client that waits to be asked for its body is sent nothing before.
	b.out = newAnswers(w, rc, a.cfg.BodyTimeout, r.Header.Get("Expect") == "")
	reading := &readGate{rc: rc, timeout: a.cfg.BodyTimeout}
	lines := &lineReader{
		pool: &a.blocks, body: r.Body, before: reading.extend, after: b.out.alive,
		longest: int(a.cfg.MaxBodyBytes), most: a.cfg.Streams.BulkMaxJobs,
	}
	err = b.run(r, lines, reading)
	gone := errors.Is(err, gateway.ErrClientGone)
	if !gone {
		b.finish(err)
	}
	if lost := b.out.close(); lost != nil || gone {
		return gateway.ErrClientGone
	}
	if err != nil {
		if gateway.ProblemOf(err).Code == job.CodeInternal {
			a.log.LogAttrs(r.Context(), slog.LevelError, "a bulk request failed", slog.String("error", err.Error()))
		}
		reading.stop()
		hangUp(w)
	}
	return nil
}

// bulkOf reads the headers of a bulk request.
func (a *API) bulkOf(r *http.Request) (*bulkRequest, error) {
	b := &bulkRequest{a: a, form: a.ownForm()}
	q := &b.request.Request
	q.Model, q.Version, q.Tenant, q.Lane = r.PathValue("model"), r.PathValue("version"), a.tenant(r), job.Bulk
	var err error
	if b.request.Info, err = a.jobs.ModelFor(r.Context(), q.Model, q.Version); err != nil {
		return nil, err
	}
	if err := checkLines(r.Header); err != nil {
		return nil, err
	}
	query, err := queryOf(r)
	if err != nil {
		return nil, err
	}
	if b.lane = query.Get("lane"); b.lane != "" {
		if _, err := job.ParseLane(b.lane); err != nil {
			return nil, job.Invalidf("lane", `expected "interactive" or "bulk"`)
		}
	}
	q.TraceParent = traceParent(r.Header.Get(job.HeaderTraceParent))
	if q.Deadline, err = parseDeadline(r.Header.Get(job.HeaderDeadline)); err != nil {
		return nil, err
	}
	b.key, err = parseKey(r.Header.Values(headerKey))
	return b, err
}

// run submits every line. The error is why it ended early.
func (b *bulkRequest) run(r *http.Request, lines *lineReader, reading *readGate) error {
	// net/http takes the end of a read deadline for the client's leaving, and cancels the request.
	ctx, leave := context.WithCancel(context.WithoutCancel(r.Context()))
	defer leave()
	defer context.AfterFunc(r.Context(), func() {
		if !reading.ended() {
			leave()
		}
	})()
	err := gateway.SubmitAll(ctx, b.a.jobs, func(yield func(line) bool) {
		lines.all(yield)
		if lines.end == nil {
			reading.over()
		}
	}, gateway.Bulk[line]{
		Read: b.read, Done: b.done, Flush: b.out.flush, Interrupt: reading.stop,
		Size:     func(l *line) int { return len(l.text) },
		Patience: b.a.cfg.Streams.BulkPatience,
	})
	if err == nil && lines.end != nil {
		err = b.endOf(lines.end)
	}
	return err
}

// endOf says why no more lines could be read.
func (b *bulkRequest) endOf(err error) error {
	var p *gateway.Problem
	var slow net.Error
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &slow) && slow.Timeout():
		return &gateway.Problem{Code: gateway.CodeSlowBody, Detail: fmt.Sprintf("nothing came for %s", b.a.cfg.BodyTimeout)}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &gateway.Problem{Code: job.CodeMalformed, Cause: err, Detail: "the body is truncated"}
	}
	return fmt.Errorf("%w: %w", gateway.ErrClientGone, err)
}

// read makes the submission of a line.
func (b *bulkRequest) read(l *line, to *gateway.Submission) error {
	*to = b.request
	if b.key != "" {
		to.Request.IdempotencyKey = b.key + "/" + strconv.Itoa(l.index)
	}
	if l.fault != nil {
		return l.fault
	}
	s, _ := b.a.submissions.Get().(*submission)
	*s = submission{Submission: *to}
	err := b.a.decode(s, l.text, b.lane, b.form)
	*to, l.short = s.Submission, s.short
	*s = submission{}
	b.a.submissions.Put(s)
	return err
}

// done writes the answer to a line.
func (b *bulkRequest) done(l *line, s *gateway.Submission, err error) {
	if err == nil {
		b.accepted++
	} else {
		b.refused++
	}
	b.out.append(func(to []byte) []byte {
		o := object{b: append(to, '{')}
		o.int("index", l.index)
		if err == nil {
			o.key("id")
			o.b = append(o.b, '"')
			o.b = s.Ticket.Append(o.b)
			o.b = append(o.b, '"')
			o.string("status", job.Queued.String())
		}
		o.text("request_id", s.Request.RequestID)
		if err != nil {
			o.key("error")
			o.b = appendProblem(o.b, gateway.ProblemOf(explain(err, &submission{Submission: *s, short: l.short})))
		}
		return append(o.end(), '\n')
	})
	l.release()
}

// finish writes the last line. err is why lines were not read any more.
func (b *bulkRequest) finish(err error) {
	b.out.append(func(to []byte) []byte {
		o := object{b: append(to, '{')}
		o.key("done")
		o.b = strconv.AppendBool(o.b, err == nil)
		o.int("accepted", b.accepted)
		o.int("refused", b.refused)
		if err != nil {
			o.key("error")
			o.b = appendProblem(o.b, gateway.ProblemOf(err))
		}
		return append(o.end(), '\n')
	})
}

// readGate moves the read deadline of a request on, until reading is stopped or the body is there.
type readGate struct {
	rc      *http.ResponseController
	timeout time.Duration

	mu       sync.Mutex
	last     bool // the deadline is not moved any more
	deadline time.Time
}

// extend gives the client its time for the next bytes.
func (g *readGate) extend() { g.set(time.Now().Add(g.timeout), false) }

// over says that the body has come.
func (g *readGate) over() { g.set(time.Time{}, true) }

// stop makes reads fail, the one under way too.
func (g *readGate) stop() { g.set(time.Unix(1, 0), true) }

func (g *readGate) set(deadline time.Time, last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last {
		g.deadline = deadline
		_ = g.rc.SetReadDeadline(deadline)
	}
	g.last = g.last || last
}

// ended reports whether reads fail for their deadline.
func (g *readGate) ended() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.deadline.IsZero() && !time.Now().Before(g.deadline)
}

// hangUp has the connection closed after the answer although the body was not read to its end: in such a way that the
// client still gets the answer, which a plain close could take from it. net/http does so for a body that is larger than
// a MaxBytesReader lets through.
func hangUp(w *response) {
	_, _ = http.MaxBytesReader(w.ResponseWriter, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}
