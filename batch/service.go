package batch

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"

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
	// Jobs computes for a model, on behalf of a tenant; backfill.ThroughGateway does.
	Jobs   func(model, version, tenant string) backfill.Jobs
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
	cfg  Config
	deps Deps
	log  *slog.Logger
}

// New returns a Service. Run makes it work on batches; without Run it only makes and shows them.
func New(cfg Config, deps Deps) (*Service, error) {
	return &Service{cfg: cfg, deps: deps}, errTODO
}

var errTODO = errors.New("not there yet")

// Run works on batches until ctx ends, and then hands back within seconds what it has in hand.
func (s *Service) Run(ctx context.Context) error { return errTODO }

// PutFile keeps a file of requests. name is what its owner calls it; purpose is PurposeBatch.
func (s *Service) PutFile(ctx context.Context, tenant, name, purpose string, r io.Reader) (File, error) {
	return File{}, errTODO
}

// File returns what is known of a file: one that was uploaded, or an output of a batch.
func (s *Service) File(ctx context.Context, tenant, id string) (File, error) { return File{}, errTODO }

// Files lists the uploaded files of a tenant, the newest first, those behind the ID after ("" is from the first one).
func (s *Service) Files(ctx context.Context, tenant, after string, limit int) (files []File, more bool, err error) {
	return nil, false, errTODO
}

// OpenFile reads a file. That of a batch which is still running ends where the batch has come to.
func (s *Service) OpenFile(ctx context.Context, tenant, id string) (io.ReadCloser, File, error) {
	return nil, File{}, errTODO
}

// DeleteFile deletes an uploaded file; ErrInUse if a batch still reads it.
func (s *Service) DeleteFile(ctx context.Context, tenant, id string) error { return errTODO }

// Create makes a batch. When it returns the batch is accepted, and will come to an end whatever dies.
func (s *Service) Create(ctx context.Context, tenant string, spec Spec) (Batch, error) {
	return Batch{}, errTODO
}

// Get returns a batch.
func (s *Service) Get(ctx context.Context, tenant, id string) (Batch, error) { return Batch{}, errTODO }

// List lists the batches of a tenant, the newest first, those behind the ID after ("" is from the first one).
func (s *Service) List(ctx context.Context, tenant, after string, limit int) (batches []Batch, more bool, err error) {
	return nil, false, errTODO
}

// Cancel asks for the batch's end. What is done until then is kept. ErrFinished if it is too late.
func (s *Service) Cancel(ctx context.Context, tenant, id string) (Batch, error) {
	return Batch{}, errTODO
}

// Pause has the batch rest until Resume, or until its completion window is over. ErrFinished if it is too late.
func (s *Service) Pause(ctx context.Context, tenant, id string) (Batch, error) {
	return Batch{}, errTODO
}

// Resume ends a Pause.
func (s *Service) Resume(ctx context.Context, tenant, id string) (Batch, error) {
	return Batch{}, errTODO
}

// Follow reads an output of a batch from a byte on, while the batch runs and until its end. After an error nothing
// follows.
func (s *Service) Follow(ctx context.Context, tenant, id string, of Output, from int64) iter.Seq2[Lines, error] {
	return func(yield func(Lines, error) bool) { yield(Lines{}, errTODO) }
}
