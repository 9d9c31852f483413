package batch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/backfill"
	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/queue"
)

// Errors of the methods, beside job.ErrNotFound for what is not there or another tenant's, a *job.Error for what is
// asked wrongly, and queue.ErrTenantFull, queue.ErrFull and queue.ErrUnavailable.
var (
	// ErrFinished says that the batch has come to its end: it is too late for that.
	ErrFinished = errors.New("the batch is finished")
	// ErrInUse says that a batch still reads the file.
	ErrInUse = errors.New("a batch that is not finished reads the file")
)

// Models knows which models are served; a *model.Catalog does.
type Models interface {
	Get(name, version string) (model.Info, bool)
	Versions(name string) []string
}

// Webhooks says which URLs may be called; a *webhook.Policy does.
type Webhooks interface {
	// Check says what speaks against a URL, as a *job.Error of the field.
	Check(field, url string) error
}

// Inputs opens what a batch names by URL. It refuses what tenants must not read, as a *job.Error.
type Inputs interface {
	Open(ctx context.Context, url string) (table.Input, io.Closer, error)
}

// Outputs writes to where a batch says by URL: all of r, or nothing. It refuses where tenants must not write, as a
// *job.Error.
type Outputs interface {
	// Check says what speaks against a URL before anything is written.
	Check(field, url string) error
	Put(ctx context.Context, url string, r io.Reader) error
}

// Deps is what a Service stands on. Queue, Jobs and Models are needed.
type Deps struct {
	Queue *queue.Queue
	// Jobs computes for a tenant and a model; backfill.ThroughGateway does.
	Jobs   func(cfg backfill.GatewayConfig) backfill.Jobs
	Models Models
	// Webhooks nil: no batch may name one.
	Webhooks Webhooks
	// Inputs and Outputs nil: no batch may name a URL for that.
	Inputs  Inputs
	Outputs Outputs
	// Logger gets what becomes of batches. Nil is silent.
	Logger *slog.Logger
	// Registerer takes the metrics. Nil is none.
	Registerer prometheus.Registerer
	// Reach is told of each step of the crash table. Nil, as outside tests, is nobody.
	Reach failpoint.Hook
	// Limits bound each line's request. Zero is job.DefaultLimits.
	Limits job.Limits
}

// Service keeps files, and makes and runs batches. It is safe for concurrent use.
type Service struct {
	cfg     Config
	deps    Deps
	log     *slog.Logger
	metrics *metrics

	records records
	claims  claims
	entries *queue.Bucket // of uploaded files
	objects *queue.Files

	preparing sync.Mutex
	prepared  bool
}

// New returns a Service. Run makes it work on batches; without Run it only makes and shows them.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("batch settings: %w", err)
	}
	if deps.Queue == nil || deps.Jobs == nil || deps.Models == nil {
		return nil, errors.New("batches need Queue, Jobs and Models")
	}
	if deps.Logger == nil {
		deps.Logger = slog.New(slog.DiscardHandler)
	}
	if deps.Limits == (job.Limits{}) {
		deps.Limits = job.DefaultLimits()
	}
	m, err := newMetrics(deps.Registerer)
	if err != nil {
		return nil, err
	}
	return &Service{
		cfg: cfg, deps: deps, log: deps.Logger, metrics: m,
		records: records{deps.Queue.TreeBucket("batches", cfg.backstop())},
		claims:  claims{deps.Queue.TreeBucket("batch-keys", cfg.backstop()), cfg.KeyAge},
		entries: deps.Queue.TreeBucket("batch-files", cfg.backstop()),
		objects: deps.Queue.Files("files"),
	}, nil
}

// prepare makes the stream, the buckets and the store, once.
func (s *Service) prepare(ctx context.Context) error {
	s.preparing.Lock()
	defer s.preparing.Unlock()
	if s.prepared {
		return nil
	}
	q := s.deps.Queue
	for _, ensure := range []func() error{
		func() error { return q.EnsureBatches(ctx, s.cfg.limits()) },
		func() error { return s.records.bucket.Ensure(ctx) },
		func() error { return s.claims.bucket.Ensure(ctx) },
		func() error { return s.entries.Ensure(ctx) },
		func() error {
			return s.objects.Ensure(ctx, queue.FilesLimits{MaxBytes: s.cfg.StoreBytes, MaxAge: s.cfg.backstop()})
		},
	} {
		if err := ensure(); err != nil {
			return err
		}
	}
	s.prepared = true
	return nil
}

// doubt has prepare look again after an error that a lost stream would explain.
func (s *Service) doubt(err error) error {
	if errors.Is(err, queue.ErrUnavailable) {
		s.preparing.Lock()
		s.prepared = false
		s.preparing.Unlock()
	}
	return err
}

// Get returns a batch.
func (s *Service) Get(ctx context.Context, tenant, id string) (Batch, error) {
	r, _, err := s.records.get(ctx, tenant, id)
	if err != nil {
		return Batch{}, err
	}
	return r.view(s.cfg.Retention), nil
}

// List lists the batches of a tenant, the newest first, those behind the ID after ("" is from the first one).
func (s *Service) List(ctx context.Context, tenant, after string, limit int) (batches []Batch, more bool, err error) {
	ids, more, err := page(ctx, s.records.bucket, tenant, after, limit)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		r, _, err := s.records.get(ctx, tenant, id)
		if errors.Is(err, job.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, false, err
		}
		batches = append(batches, r.view(s.cfg.Retention))
	}
	return batches, more, nil
}

// page lists names below a tenant, the newest first: they are UUIDv7, or begin so.
func page(ctx context.Context, bucket *queue.Bucket, tenant, after string, limit int) (names []string, more bool, err error) {
	keys, err := bucket.Keys(ctx, tenant)
	if err != nil {
		return nil, false, err
	}
	slices.Reverse(keys)
	for _, key := range keys {
		name := key[len(tenant)+1:]
		if after != "" && name >= after {
			continue
		}
		if len(names) == max(1, limit) {
			return names, true, nil
		}
		names = append(names, name)
	}
	return names, false, nil
}

// Cancel asks for the batch's end. What is done until then is kept. ErrFinished if it is too late.
func (s *Service) Cancel(ctx context.Context, tenant, id string) (Batch, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	return s.ask(ctx, tenant, id, func(r *record) {
		if r.CancelAsked.IsZero() {
			r.CancelAsked = now
		}
		if r.Runner == "" { // nobody has begun, and perhaps nobody will soon
			r.Status, r.Ended = Cancelled, now
		}
	})
}

// Pause has the batch rest until Resume, or until its completion window is over. ErrFinished if it is too late.
func (s *Service) Pause(ctx context.Context, tenant, id string) (Batch, error) {
	return s.ask(ctx, tenant, id, func(r *record) { r.PauseAsked = true })
}

// Resume ends a Pause.
func (s *Service) Resume(ctx context.Context, tenant, id string) (Batch, error) {
	return s.ask(ctx, tenant, id, func(r *record) { r.PauseAsked = false })
}

// ask notes what the owner of a batch wants of it; its runner sees it within moments.
func (s *Service) ask(ctx context.Context, tenant, id string, want func(*record)) (Batch, error) {
	r, err := s.records.change(ctx, tenant, id, func(r *record) error {
		if r.Status.Final() {
			return ErrFinished
		}
		want(r)
		return nil
	})
	if r == nil {
		return Batch{}, err
	}
	if err == nil && r.Status.Final() {
		// Its runner does it once more, in case that this fails.
		if err := s.queueWebhook(ctx, r); err != nil {
			s.log.Debug("the webhook of a batch could not be queued; its runner does it", "batch", r.ID, "error", err)
		}
	}
	return r.view(s.cfg.Retention), err
}
