package grpcapi

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/job/proto/sheafpb"
)

// readSubmit makes a submission of a sheaf.v1.SubmitRequest, without submitting it.
func (a *API) readSubmit(ctx context.Context, body []byte, lane job.Lane) (*inference, *submitRequest, error) {
	m := &submitRequest{}
	if err := m.decode(body); err != nil {
		return &inference{}, m, err
	}
	q, err := a.readInference(ctx, m.request)
	if err == nil {
		q.Request.Lane, err = m.laneOr(lane)
	}
	if err != nil {
		return q, m, err
	}
	q.Request.IdempotencyKey, q.Request.Deadline, q.Request.TraceParent = m.key, m.deadline, traceParent(ctx)
	q.Request.Webhook = m.webhook
	q.boundByTimeout()
	return q, m, nil
}

// submit answers Submit.
func (a *API) submit(ctx context.Context, f *frame) (*sheafpb.JobStatus, error) {
	q, m, err := a.readSubmit(ctx, f.b, job.Interactive)
	if err != nil {
		a.jobs.Refused(err)
		return nil, err
	}
	v, _, err := a.jobs.Submit(ctx, &q.Submission, within(ctx, m.wait))
	if err != nil {
		return nil, explain(err, &q.Info)
	}
	s := a.jobStatus(ctx, v, q.typed)
	s.Duplicate = q.Duplicate
	return s, nil
}

// get answers Get.
func (a *API) get(ctx context.Context, q *sheafpb.GetRequest) (*sheafpb.JobStatus, error) {
	t, err := ticketOf(q.GetId())
	if err != nil {
		return nil, err
	}
	wait, err := waitOf(q.GetWait())
	if err != nil {
		return nil, err
	}
	v, err := a.jobs.Find(ctx, auth.FromContext(ctx).View(), t, within(ctx, wait))
	if err != nil {
		return nil, err
	}
	return a.jobStatus(ctx, v, q.GetTypedContents()), nil
}

// cancel answers Cancel. A running job is canceled if this record comes before the worker's.
func (a *API) cancel(ctx context.Context, q *sheafpb.CancelRequest) (*sheafpb.JobStatus, error) {
	t, err := ticketOf(q.GetId())
	if err != nil {
		return nil, err
	}
	v, err := a.jobs.Cancel(ctx, auth.FromContext(ctx).View(), t)
	if err != nil {
		return nil, err
	}
	if v.State != job.Canceled {
		return nil, &gateway.Problem{Code: gateway.CodeFinished, Detail: "the job is finished, its result stands", Ticket: t.String(), State: v.State}
	}
	return a.jobStatus(ctx, v, false), nil
}

// ticketOf reads the id of a job. What cannot be one is an unknown job.
func ticketOf(id string) (job.Ticket, error) {
	t, err := job.ParseTicket(id)
	if err != nil {
		return job.Ticket{}, &gateway.Problem{Code: gateway.CodeUnknownJob, Detail: err.Error()}
	}
	return t, nil
}

// within shortens a wait so that the answer is there before the call's deadline: a client that is told no id cannot ask
// again.
func within(ctx context.Context, wait time.Duration) time.Duration {
	const answering = 500 * time.Millisecond
	end, ok := ctx.Deadline()
	if !ok || wait <= 0 {
		return wait
	}
	left := time.Until(end)
	return max(0, min(wait, left-min(left/4, answering)))
}

// jobStatus says how a job stands. One that is not finished says when to ask again.
func (a *API) jobStatus(ctx context.Context, v *gateway.Job, typed bool) *sheafpb.JobStatus {
	s := &sheafpb.JobStatus{Id: v.Ticket.String(), State: sheafpb.JobState(v.State)} // they are numbered alike
	if r := v.Result; r != nil {
		a.finished(s, r, typed)
		return s
	}
	a.jobs.Foresee(ctx, v)
	s.Model, s.ModelVersion = v.Model, v.Version
	s.CreatedAt, s.Deadline = timestamp(v.Created), timestamp(v.Deadline)
	s.RetryAfter = durationpb.New(a.again(v.Again()))
	if v.Placed {
		n := uint32(max(v.Ahead, 0)) //nolint:gosec // messages of a stream
		s.Position = &n
	}
	if v.Timed {
		s.Eta = durationpb.New(v.ETA)
	}
	return s
}

// finished adds what the record of a job says.
func (a *API) finished(s *sheafpb.JobStatus, r *job.Result, typed bool) {
	s.Model, s.ModelVersion = r.Model, r.Version
	s.CreatedAt, s.FinishedAt = timestamp(r.CreatedAt), timestamp(r.FinishedAt)
	s.Attempts = uint32(max(r.Attempts, 0)) //nolint:gosec // bounded by settings
	if r.State == job.Succeeded {
		s.Response = response(r, typed)
	}
	if r.Error != nil {
		s.Error = a.jobError(gateway.ProblemOf(r.Error))
	}
	if t := r.Timings; t != (job.Timings{}) {
		s.Timings = &sheafpb.Timings{
			Queue: durationpb.New(t.Queue), BatchWait: durationpb.New(t.BatchWait), Infer: durationpb.New(t.Infer),
			BatchRows: uint32(max(t.BatchRows, 0)), //nolint:gosec // bounded by settings
		}
	}
}

// jobError tells a problem within an answer.
func (a *API) jobError(p *gateway.Problem) *sheafpb.JobError {
	e := &sheafpb.JobError{Code: string(p.Code), Field: excerpt(p.Field), Detail: excerpt(p.Detail), Status: int32(codeOf(p.Code))} //nolint:gosec // a code
	if after := a.retryAfter(p); after > 0 {
		e.RetryAfter = durationpb.New(after)
	}
	return e
}

// timestamp is nil for no time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
