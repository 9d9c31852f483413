package producer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// Errors of Submit that a caller tells apart. Invalid requests are a *job.Error.
var (
	ErrTenantFull  = queue.ErrTenantFull  // too many jobs of this tenant wait for this model: slow down
	ErrFull        = queue.ErrFull        // the whole queue is full: come back later
	ErrUnavailable = queue.ErrUnavailable // NATS is out of reach; the job may have been accepted
	ErrTooLarge    = queue.ErrTooLarge    // the job is larger than the queue's messages may be
)

// ErrKeyReused says that the IdempotencyKey was used before, for another request. Once that one's job is finished, only
// its record can tell: its fingerprint is another than the ticket's.
var ErrKeyReused = errors.New("the IdempotencyKey was used before, for another request")

// publisher is the part of the queue that a Producer needs.
type publisher interface {
	Publish(ctx context.Context, j *job.Job) (job.Ticket, bool, error)
	Locate(ctx context.Context, t job.Ticket) (job.Location, error)
	PublishSheaf(ctx context.Context, jobs []*job.Job) ([]job.Ticket, error)
	loader
}

// Producer validates and publishes jobs. It is safe for concurrent use.
type Producer struct {
	cfg       Config
	queue     publisher
	models    *model.Catalog
	admission *admission
	close     func() error // ends what Connect began
}

// Request is one job to submit.
type Request struct {
	Model   string
	Version string   // empty: whatever the workers serve
	Tenant  string   // empty: job.DefaultTenant
	Lane    job.Lane // Interactive unless set
	// RequestID is the client's own id, echoed in the result.
	RequestID string
	Inputs    []job.Tensor
	Outputs   []string // empty: all, in the model's order
	// Parameters are sorted by name.
	Parameters []job.Parameter
	// IdempotencyKey makes a repeated submit of the same tenant the same job. Such a job travels in a message of its own.
	IdempotencyKey string
	// Fingerprint tells apart what was asked under one IdempotencyKey, for whoever has a cheaper way than to hash the
	// inputs: a key that derives from them. 0: it is that of the request.
	Fingerprint uint64
	Deadline    time.Time // zero: the model's default
	Reply       string    // a NATS inbox that is sent the outcome
	Webhook     string    // a URL that is sent the outcome
	TraceParent string
}

// Submission says that a job was accepted.
type Submission struct {
	Ticket    job.Ticket
	CreatedAt time.Time
	// Deadline is the job's: the request's, or else its model's default; zero if there is none.
	Deadline time.Time
	// Duplicate says that the same IdempotencyKey had been accepted before: the ticket is that job's.
	Duplicate bool
	// Info is the announcement that the request was checked against.
	Info model.Info
}

// New returns a Producer over an open queue and a catalog that somebody keeps up to date (see Watch).
func New(q publisher, models *model.Catalog, cfg Config) (*Producer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("producer settings: %w", err)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Producer{
		cfg: cfg, queue: q, models: models, admission: newAdmission(q, models, &cfg), close: func() error { return nil },
	}, nil
}

// Connect opens the queue that cfg.Queue names and follows the announcements of models until Close.
func Connect(ctx context.Context, cfg Config) (*Producer, error) {
	q, err := queue.Connect(ctx, cfg.Queue)
	if err != nil {
		return nil, err
	}
	models := model.NewCatalog()
	p, err := New(q, models, cfg)
	if err == nil {
		err = q.EnsureStreams(ctx)
	}
	if err == nil {
		// The watch lives as long as the producer, not as long as the call.
		watch, stop := context.WithCancel(context.WithoutCancel(ctx))
		p.close = func() error { stop(); return q.Close() }
		err = Watch(watch, q, models, p.cfg.Logger)
	}
	if err != nil {
		if p != nil {
			_ = p.Close()
		}
		_ = q.Close()
		return nil, err
	}
	return p, nil
}

// Close ends what New and Connect began; a queue that New was given stays open. Submit must not be called any more.
func (p *Producer) Close() error {
	p.admission.close()
	return p.close()
}

// Models returns the catalog of announced models.
func (p *Producer) Models() *model.Catalog { return p.models }

// Submit accepts one job. It returns when JetStream holds the job, which may take as long as ctx allows while NATS is
// out of reach. What cannot be taken now is refused at once, with a *[Refusal].
//
// The ticket of a job with an IdempotencyKey that is refused so has its ID and fingerprint: the job may be there already.
func (p *Producer) Submit(ctx context.Context, r Request) (Submission, error) {
	if !p.admission.enter() {
		return Submission{}, &Refusal{Err: ErrBusy}
	}
	defer p.admission.leave()
	j, info, err := p.prepare(&r)
	if err != nil {
		return Submission{}, err
	}
	refused := Submission{Ticket: job.Ticket{ID: j.ID, Fingerprint: j.Fingerprint}}
	g, err := p.admission.admit(j)
	if err != nil {
		return refused, submitError(j, err)
	}
	p.cfg.Reach.Reach(failpoint.Validated)
	ticket, duplicate, err := p.queue.Publish(ctx, j)
	if g != nil {
		messages := 0
		if ticket.Index == 0 {
			messages = 1
		}
		g.landed(err == nil && !duplicate, messages)
	}
	if err != nil {
		return refused, submitError(j, p.admission.refused(j, err))
	}
	if duplicate && p.clashes(ctx, ticket) {
		return Submission{}, ErrKeyReused
	}
	p.cfg.Reach.Reach(failpoint.Published)
	return Submission{Ticket: ticket, CreatedAt: j.CreatedAt, Deadline: j.Deadline, Duplicate: duplicate, Info: info}, nil
}

// clashes reports whether the job that was there under a ticket's ID is another request's. A job that is not there is
// finished. One that cannot be looked up is accepted all the same.
func (p *Producer) clashes(ctx context.Context, t job.Ticket) bool {
	loc, err := p.queue.Locate(ctx, t)
	return err == nil && job.Clash(t.Fingerprint, loc.Fingerprint)
}

// prepare makes the job of a request and checks it against its model's signature.
func (p *Producer) prepare(r *Request) (*job.Job, model.Info, error) {
	info, ok := p.models.Get(r.Model, r.Version)
	if !ok {
		return nil, model.Info{}, p.unknownModel(r.Model, r.Version)
	}
	j := new(job.Job)
	if err := p.makeJob(j, r, &info, slices.Clone(r.Inputs)); err != nil {
		return nil, model.Info{}, err
	}
	return j, info, nil
}

// makeJob makes the job of a request. The inputs, which are the request's, may change their order.
func (p *Producer) makeJob(j *job.Job, r *Request, info *model.Info, inputs []job.Tensor) error {
	if r.Tenant == "" {
		r.Tenant = job.DefaultTenant
	}
	if !job.ValidName(r.Tenant) {
		return job.Invalidf("tenant", "a tenant is 1 to 128 letters, digits, '-', '_' and '.', starting with a letter or a digit")
	}
	*j = job.Job{
		Lane: r.Lane, Tenant: r.Tenant, Model: r.Model, Version: r.Version, RequestID: r.RequestID,
		Inputs: inputs, Outputs: r.Outputs, Parameters: r.Parameters,
		CreatedAt: time.Now(), Deadline: r.Deadline, Reply: r.Reply, Webhook: r.Webhook, TraceParent: r.TraceParent,
	}
	if _, err := info.Signature.Check(j, p.cfg.Limits); err != nil {
		return err
	}
	if j.Deadline.IsZero() && info.Deadline > 0 {
		j.Deadline = j.CreatedAt.Add(info.Deadline)
	}
	if r.IdempotencyKey != "" {
		if j.ID, j.Idempotent, j.Fingerprint = job.DerivedID(r.Tenant, r.IdempotencyKey), true, r.Fingerprint; j.Fingerprint == 0 {
			j.Fingerprint = job.Fingerprint(j)
		}
		return p.readable(j)
	}
	var err error
	if j.ID, err = job.NewID(); err != nil {
		return err
	}
	return p.readable(j)
}

// readable makes sure that a worker will be able to read what is seldom given and has rules of its own, by reading it
// as a worker does.
func (p *Producer) readable(j *job.Job) error {
	if j.Reply == "" && j.Webhook == "" && j.RequestID == "" && len(j.Parameters) == 0 && len(j.Outputs) == 0 {
		return nil
	}
	for _, param := range j.Parameters {
		switch param.Value.(type) {
		case bool, int64, float64, string:
		default:
			return job.Invalidf("parameters."+param.Name, "expected a bool, int64, float64 or string, got a %T", param.Value)
		}
	}
	bare := *j
	bare.Inputs = nil
	env := job.Envelope{
		Lane: j.Lane, Tenant: j.Tenant, Model: j.Model, Body: job.AppendJob(nil, &bare),
		Header: func(key string) string {
			if key == job.HeaderContentType {
				return job.ContentTypeSheaf
			}
			return ""
		},
	}
	decoded, err := job.DecodeMessage(&env, p.cfg.Limits)
	switch {
	case err != nil:
		return job.Errorf(job.CodeInvalid, "", "%v", err)
	case len(decoded) == 1 && decoded[0].Err != nil:
		return decoded[0].Err
	}
	return nil
}

func (p *Producer) unknownModel(name, version string) error {
	if version != "" {
		if _, ok := p.models.Get(name, ""); ok {
			return job.Errorf(job.CodeUnknownModel, "model_version", "no worker has announced this version of the model")
		}
	}
	return job.Errorf(job.CodeUnknownModel, "model_name", "no worker has announced a model of this name; GET /v1/models or `sheaf model ls` lists them")
}
