package job

import (
	"errors"
	"fmt"
	"time"
)

// DefaultTenant owns jobs whose submitter named no tenant.
const DefaultTenant = "default"

// Job is one request for a prediction: one or more rows for one model.
type Job struct {
	ID     ID
	Lane   Lane
	Tenant string
	Model  string
	// Version asks for one version of the model; empty is whatever the worker serves.
	Version string
	// RequestID is the client's own id, echoed in the answer, never interpreted.
	RequestID string
	Inputs    []Tensor
	// Outputs names the wanted outputs in the wanted order; empty is all of them in the model's order.
	Outputs []string
	// Parameters are the request's own; jobs share a batch only if theirs agree.
	Parameters []Parameter
	CreatedAt  time.Time
	// Deadline is when the answer is of no more use; zero is never.
	Deadline time.Time
	// Reply is a NATS inbox that is sent the outcome; empty is none.
	Reply string
	// Webhook is a URL that is sent the outcome, signed and retried; empty is none.
	Webhook string
	// TraceParent is the W3C trace context of the submit.
	TraceParent string
	// Idempotent says that the ID derives from an Idempotency-Key: the job travels in a message of its own.
	Idempotent bool
	// Fingerprint is that of the request, for a job with an Idempotency-Key; 0 is none.
	Fingerprint uint64
}

// Parameter is one request parameter of the Open Inference Protocol. Value is a bool, int64, float64 or string.
// Lists of parameters are sorted by name.
type Parameter struct {
	Name  string
	Value any
}

// Result is the outcome of a job: what its terminal record says.
type Result struct {
	ID      ID
	State   State // a terminal state
	Tenant  string
	Model   string
	Version string
	// RequestID is the client's own id.
	RequestID string
	Outputs   []Tensor // of a succeeded job
	Error     *Error   // of any other
	// Attempts counts how often a worker tried the job: its first delivery, and each time it was run alone since. 0: never.
	Attempts   int
	CreatedAt  time.Time // millisecond precision
	FinishedAt time.Time // millisecond precision
	Timings    Timings
	// Webhook is the job's, if it has one.
	Webhook string
	// Fingerprint is the job's, if it has one.
	Fingerprint uint64
	// Token names the attempt that wrote the record, so that a writer knows its own record again.
	Token uint64
}

// Timings answers "why was I slow" for one job. Microsecond precision.
type Timings struct {
	Queue     time.Duration // from submit to the worker
	BatchWait time.Duration // in the worker, until its batch closed
	Infer     time.Duration // the run of the whole batch
	BatchRows int           // rows of that batch
}

// Location is what the queue knows of a job that has no record yet.
type Location struct {
	State         State // Queued or Running
	Tenant, Model string
	CreatedAt     time.Time
	// Deadline is the job's own; zero if it has none.
	Deadline time.Time
	// Ahead is how many messages of the lane stand before the job's, at most; 0 when it is running.
	Ahead int
	// Webhook is the job's, if it has one.
	Webhook string
	// Fingerprint is the job's, if it has one.
	Fingerprint uint64
}

// ErrNotFound says that the queue or the result store holds nothing under the ID.
var ErrNotFound = errors.New("no such job")

// Code classifies an Error. It is part of the wire contract.
type Code string

// The codes of errors. Each stands for one problem type of the HTTP API.
const (
	CodeMalformed    Code = "malformed"     // the body cannot be parsed
	CodeInvalid      Code = "invalid"       // parsed, but not what the model takes
	CodeTooLarge     Code = "too-large"     // over a limit of bytes
	CodeUnknownModel Code = "unknown-model" // no such model or version
	CodeInference    Code = "inference"     // the model refused or failed at this input
	CodeExhausted    Code = "exhausted"     // every attempt was used up
	CodeExpired      Code = "expired"       // the deadline passed first
	CodeCanceled     Code = "canceled"      // the client asked for it
	CodeInternal     Code = "internal"      // a defect of ours
)

// Error is why a job was refused or has failed. It never contains the input.
type Error struct {
	Code   Code
	Field  string // path of the offending field, such as "inputs[0].shape"; empty if none
	Detail string // what was expected and what was found
}

// Error implements error.
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return e.Field + ": " + e.Detail
}

// Errorf makes an Error. field may be empty.
func Errorf(code Code, field, format string, args ...any) *Error {
	return &Error{Code: code, Field: field, Detail: fmt.Sprintf(format, args...)}
}

// Invalidf makes the error of a well-formed request that is not what the model takes.
func Invalidf(field, format string, args ...any) *Error {
	return Errorf(CodeInvalid, field, format, args...)
}

// Limits bounds what a decoder believes before it allocates anything. Units: bytes, rows, dimensions, elements.
type Limits struct {
	MaxBytes    int // of a whole body
	MaxRows     int // of one job
	MaxRank     int // dimensions of one tensor
	MaxElements int // of one tensor
	MaxTensors  int // inputs of one job, and outputs asked for
	MaxJobs     int // of one sheaf
}

// DefaultLimits protects a process with the default settings: 8 MiB a body, 4096 rows, 8 dimensions.
func DefaultLimits() Limits {
	return Limits{MaxBytes: 8 << 20, MaxRows: 4096, MaxRank: 8, MaxElements: 8 << 20, MaxTensors: 64, MaxJobs: 1024}
}

// Validate names every limit that is not positive.
func (l Limits) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value int
	}{
		{"MaxBytes", l.MaxBytes},
		{"MaxRows", l.MaxRows},
		{"MaxRank", l.MaxRank},
		{"MaxElements", l.MaxElements},
		{"MaxTensors", l.MaxTensors},
		{"MaxJobs", l.MaxJobs},
	} {
		if f.value < 1 {
			errs = append(errs, fmt.Errorf("limit %s is %d: it must be positive", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}
