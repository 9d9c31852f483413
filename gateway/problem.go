package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// Codes of problems that a job itself cannot have. The others are those of package job.
const (
	CodeUnknownJob     job.Code = "unknown-job"      // no such job, or not for this caller
	CodeFinished       job.Code = "finished"         // too late to cancel
	CodeTenantFull     job.Code = "tenant-full"      // too many of the tenant's jobs wait
	CodeFull           job.Code = "full"             // the queue is full
	CodeBusy           job.Code = "busy"             // this process has too many submits in hand
	CodeOverloaded     job.Code = "overloaded"       // the job would not be done before its deadline
	CodeUnavailable    job.Code = "unavailable"      // something behind the gateway does not answer
	CodeTooManyWaiters job.Code = "too-many-waiters" // as many as allowed wait for results
	CodeTimeout        job.Code = "timeout"          // no result within the wait; the job goes on
	CodeUnsupported    job.Code = "unsupported"      // known, and not done here
	CodeMediaType      job.Code = "unsupported-media-type"
	CodeSlowBody       job.Code = "request-timeout"
	CodeUnauthorized   job.Code = "unauthorized" // who asks is not known
	CodeForbidden      job.Code = "forbidden"    // who asks may not
	CodeRateLimited    job.Code = "rate-limited" // who asks has asked too often
	CodeUnfinished     job.Code = "not-finished" // too early for that
	CodeNoWebhook      job.Code = "no-webhook"   // the job names none
	CodeKeyReused      job.Code = "key-reused"   // the Idempotency-Key was used for another request
)

// Problem is an error as a client is told of it.
type Problem struct {
	Code     job.Code
	Field    string // path of what is wrong, such as "inputs[0].shape"
	Detail   string
	Expected []model.TensorSpec // what the model takes, where that is what the request misses
	Ticket   string             // the job that it is about
	State    job.State          // of that job
	Busy     bool               // worth another try, after After or later
	Polls    bool               // worth a poll of the job, after After
	After    time.Duration
	Count    *int  // how many match, where that is not what the client says
	Cause    error // for the log, never for the client
}

// Text says in one line what is wrong, and where.
func (p *Problem) Text() string {
	if p.Field != "" {
		return p.Field + ": " + p.Detail
	}
	return p.Detail
}

// Error implements error.
func (p *Problem) Error() string {
	s := p.Text()
	if p.Cause != nil {
		s += ": " + p.Cause.Error()
	}
	return s
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Cause }

// ErrClientGone says that nobody is there any more to read an answer.
var ErrClientGone = errors.New("the client has gone")

// ProblemOf says what a client is told of an error.
func ProblemOf(err error) *Problem {
	var p *Problem
	var e *job.Error
	var r *producer.Refusal
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &r):
		p := *ProblemOf(r.Err)
		p.After = r.RetryAfter
		return &p
	case errors.Is(err, producer.ErrBusy):
		return &Problem{Code: CodeBusy, Busy: true, Detail: "this server has as many submits in hand as it may; try again later"}
	case errors.Is(err, producer.ErrTooLate):
		return &Problem{Code: CodeOverloaded, Busy: true, Detail: "so many jobs wait that this one would not be done before its deadline; it was not accepted. Try again later, or with a later deadline"}
	case errors.As(err, &e):
		return &Problem{Code: e.Code, Field: e.Field, Detail: e.Detail}
	case errors.Is(err, producer.ErrTenantFull):
		return &Problem{Code: CodeTenantFull, Busy: true, Detail: "too many jobs of this tenant wait for this model; try again later"}
	case errors.Is(err, producer.ErrKeyReused):
		return keyReused()
	case errors.Is(err, producer.ErrTooLarge):
		return &Problem{Code: job.CodeTooLarge, Detail: "the job is larger than the queue takes in one message; split it into several jobs"}
	case errors.Is(err, producer.ErrFull):
		return &Problem{Code: CodeFull, Busy: true, Detail: "the queue is full; try again later"}
	case errors.Is(err, producer.ErrUnavailable):
		return &Problem{Code: CodeUnavailable, Busy: true, Detail: "the queue is out of reach; try again later"}
	case errors.Is(err, resultstore.ErrUnavailable):
		return &Problem{Code: CodeUnavailable, Busy: true, Detail: "the result store is out of reach; try again later"}
	case errors.Is(err, context.DeadlineExceeded):
		return &Problem{Code: CodeUnavailable, Busy: true, Detail: "a service behind the API did not answer in time; try again later"}
	}
	return &Problem{Code: job.CodeInternal, Detail: "the server failed at this request; its log says why"}
}
