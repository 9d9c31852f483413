// Package queue is the skeleton of the seam; see the functions.
package queue

import (
	"context"
	"errors"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Errors that a caller tells apart.
var (
	ErrTenantFull  = errors.New("the tenant's queue for this model is full") // 429
	ErrFull        = errors.New("the queue is full")                         // 503
	ErrUnavailable = errors.New("NATS is out of reach")                      // 503
	ErrTooLarge    = errors.New("the job is larger than the queue takes")    // 413
	ErrLapsed      = errors.New("the lease has lapsed")
)

// Config is filled by the owner of this package.
type Config struct{ URL string }

// Queue is one connection to JetStream.
type Queue struct{}

// Connect opens the connection. It fails, with what to do, if no server answers within cfg.ConnectTimeout.
func Connect(ctx context.Context, cfg Config) (*Queue, error) { panic("stub") }

// Close flushes what is pending and closes the connection.
func (q *Queue) Close() error { panic("stub") }

// EnsureStreams creates or updates the streams and buckets, idempotently, safe to run in many processes at once.
func (q *Queue) EnsureStreams(ctx context.Context) error { panic("stub") }

// EnsureConsumer creates or updates the durable consumer of one lane and model.
func (q *Queue) EnsureConsumer(ctx context.Context, lane job.Lane, model string) error { panic("stub") }

// Ready reports nil when JetStream answers and the streams exist.
func (q *Queue) Ready(ctx context.Context) error { panic("stub") }

// Publish accepts one job (group commit with whatever else is being published). duplicate: the same ID was there already.
func (q *Queue) Publish(ctx context.Context, j *job.Job) (t job.Ticket, duplicate bool, err error) {
	panic("stub")
}

// PublishSheaf accepts many jobs of one lane, model and tenant, in as few messages as the limits allow, in order.
// tickets[i] belongs to jobs[i]; on an error the first n jobs have tickets and were accepted, the others may have been.
func (q *Queue) PublishSheaf(ctx context.Context, jobs []*job.Job) (tickets []job.Ticket, err error) {
	panic("stub")
}

// Locate finds a job's message. job.ErrNotFound if the stream does not hold it (asked of the leader before it counts).
func (q *Queue) Locate(ctx context.Context, t job.Ticket) (job.Location, error) { panic("stub") }

// Remove deletes the job's message if the job is alone in it; false if it is gone or has company.
func (q *Queue) Remove(ctx context.Context, t job.Ticket) (bool, error) { panic("stub") }

// NotifyDone tells every process that the jobs are finished. Best effort.
func (q *Queue) NotifyDone(ids []job.ID) error { panic("stub") }

// OnDone calls fn for every NotifyDone of any process. fn must not block. stop ends it.
func (q *Queue) OnDone(fn func(ids []job.ID)) (stop func(), err error) { panic("stub") }

// Reply sends an outcome to an inbox (plain subject). Best effort.
func (q *Queue) Reply(subject string, header map[string]string, body []byte) error { panic("stub") }

// Announce stores a model's announcement under key, e.g. "digits/1". Nothing is written if it stands there already.
func (q *Queue) Announce(ctx context.Context, key string, value []byte) error { panic("stub") }

// Withdraw deletes an announcement.
func (q *Queue) Withdraw(ctx context.Context, key string) error { panic("stub") }

// WatchAnnouncements calls fn for each announcement there is and each change (value nil: withdrawn). It returns when
// all that there were at the call have been delivered; changes go on until ctx ends.
func (q *Queue) WatchAnnouncements(ctx context.Context, fn func(key string, value []byte)) error {
	panic("stub")
}

// Backlog counts the messages that wait in a lane for a model, and those delivered and not yet acked.
func (q *Queue) Backlog(ctx context.Context, lane job.Lane, model string) (waiting, running int, err error) {
	panic("stub")
}

// DeadLetter copies the message to the dead stream with the reason; ids are the jobs of it that are meant (nil: all).
func (q *Queue) DeadLetter(ctx context.Context, d *Delivery, ids []job.ID, reason string) error {
	panic("stub")
}

// Source fetches from the durable consumer of one lane and model.
type Source struct{}

// Source returns the source of a lane and model; the consumer must exist.
func (q *Queue) Source(ctx context.Context, lane job.Lane, model string) (*Source, error) {
	panic("stub")
}

// Fetch asks for up to limit messages and calls fn for each as it arrives. It returns when limit have come, wait is
// over or ctx ends, with how many came. fn must be quick.
func (s *Source) Fetch(ctx context.Context, limit int, wait time.Duration, fn func(*Delivery)) (int, error) {
	panic("stub")
}

// AckWait is how long a lease lasts without Extend.
func (s *Source) AckWait() time.Duration { panic("stub") }

// Delivery is a leased message.
type Delivery struct {
	Envelope job.Envelope
	Seq      uint64 // stream sequence
	Attempt  int    // 1 for the first delivery
}

// Ack says that every job of the message has its record.
func (d *Delivery) Ack() error { panic("stub") }

// Retry gives the message back, to be delivered again after the delay (0: at once). ErrLapsed, and nothing sent, if
// the lease has lapsed.
func (d *Delivery) Retry(delay time.Duration) error { panic("stub") }

// Reject ends the message without another delivery. ErrLapsed, and nothing sent, if the lease has lapsed.
func (d *Delivery) Reject(reason string) error { panic("stub") }

// Extend renews the lease for another AckWait.
func (d *Delivery) Extend() error { panic("stub") }
