package backfill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// Gateway accepts jobs and finds them; a *gateway.Gateway does.
type Gateway interface {
	Submit(ctx context.Context, s *gateway.Submission, wait time.Duration) (v *gateway.Job, waited bool, err error)
	Find(ctx context.Context, scope string, t job.Ticket, wait time.Duration) (*gateway.Job, error)
}

// Records drops results that stand elsewhere; a resultstore.Store does.
type Records interface {
	Delete(ctx context.Context, ids ...job.ID) error
}

// GatewayConfig says whose jobs [ThroughGateway] asks for what.
type GatewayConfig struct {
	Tenant string // empty: job.DefaultTenant
	// Model is the announcement that the inputs were made for.
	Model model.Info
	// Outputs are those that are wanted; empty: all, in the model's order.
	Outputs []string
	// Again has the record looked for before a job is submitted: another run may have had it computed.
	Again bool
	// Wait is how long one look at an unfinished job lasts.
	Wait time.Duration
	// Patience is how long a queue or a result store that is out of reach or full is waited for; 0: for ever.
	Patience time.Duration
	// Logger is told, at warning level, what is waited for. Nil is silent.
	Logger *slog.Logger
}

const (
	// defaultWait is GatewayConfig.Wait, if that is 0.
	defaultWait = 20 * time.Second
	// retryFirst and retryMost are the pauses between two tries.
	retryFirst, retryMost = 100 * time.Millisecond, 5 * time.Second
	// noDeadline is when the answer to a job is of no more use: the model's own deadline is for those who wait.
	noDeadline = 30 * 24 * time.Hour
	// generations is how often a job is submitted under a new key, because the one before came to no end of its own: its
	// message and its record are gone.
	generations = 8
)

// throughGateway are Jobs that a gateway in this process submits.
type throughGateway struct {
	cfg     GatewayConfig
	jobs    Gateway
	records Records // nil: results stay for their time to live
	log     *slog.Logger

	mu    sync.Mutex
	moved map[string]int // keys of which another generation counts
}

// ThroughGateway returns Jobs that wait on the bulk lane, each under an ID that its key decides. records may be nil: then
// results stay for their time to live.
func ThroughGateway(g Gateway, records Records, cfg GatewayConfig) Jobs {
	if cfg.Tenant == "" {
		cfg.Tenant = job.DefaultTenant
	}
	if cfg.Wait <= 0 {
		cfg.Wait = defaultWait
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &throughGateway{cfg: cfg, jobs: g, records: records, log: cfg.Logger, moved: map[string]int{}}
}

// keyOf is the key of a generation.
func keyOf(key string, generation int) string {
	if generation == 0 {
		return key
	}
	return key + "~" + strconv.Itoa(generation)
}

// errMoved says that the job under a key cannot come to an end, and another must be asked.
var errMoved = errors.New("the job is gone")

// Do implements Jobs.
func (t *throughGateway) Do(ctx context.Context, key string, inputs []job.Tensor) (job.Result, error) {
	for generation := range generations {
		result, err := t.do(ctx, keyOf(key, generation), inputs)
		if !errors.Is(err, errMoved) {
			return result, err
		}
		t.log.Warn("a job is gone without a result, and is asked once more", "key", key)
		t.mu.Lock()
		t.moved[key] = generation + 1
		t.mu.Unlock()
	}
	return job.Result{}, fmt.Errorf("job %q was asked %d times, and is gone each time; is the result store losing its records?", key, generations)
}

// do asks one job, and waits out what may pass.
func (t *throughGateway) do(ctx context.Context, key string, inputs []job.Tensor) (job.Result, error) {
	var ticket job.Ticket
	submitted := false
	pause, failing := retryFirst, time.Time{}
	for {
		v, err := t.look(ctx, key, inputs, &ticket, &submitted)
		switch {
		case err == nil && v.State.Terminal():
			// A deadline far away that has passed all the same is that of a run long ago.
			if v.State == job.Expired {
				return job.Result{}, errMoved
			}
			return *v.Result, nil
		case err == nil:
			pause, failing = retryFirst, time.Time{}
			continue
		case ctx.Err() != nil:
			return job.Result{}, ctx.Err()
		}
		p := gateway.ProblemOf(err)
		switch {
		case p.Code == gateway.CodeKeyReused, p.Code == gateway.CodeUnknownJob && submitted:
			return job.Result{}, errMoved
		case !p.Busy:
			return job.Result{}, err
		}
		now := time.Now()
		if failing.IsZero() {
			failing = now
		}
		if t.cfg.Patience > 0 && now.Sub(failing) > t.cfg.Patience {
			return job.Result{}, fmt.Errorf("%w for %s: %w", ErrUnavailable, t.cfg.Patience, err)
		}
		t.log.Debug("a job must wait", "key", key, "error", err)
		if err := sleep(ctx, max(pause, min(p.After, retryMost))); err != nil {
			return job.Result{}, err
		}
		pause = min(2*pause, retryMost)
	}
}

// look submits the job, unless that was done, and waits for its end for a while.
func (t *throughGateway) look(ctx context.Context, key string, inputs []job.Tensor, ticket *job.Ticket, submitted *bool) (*gateway.Job, error) {
	if *submitted {
		return t.jobs.Find(ctx, t.cfg.Tenant, *ticket, t.cfg.Wait)
	}
	s := gateway.Submission{Info: t.cfg.Model}
	q := &s.Request
	q.Model, q.Version, q.Tenant, q.Lane = t.cfg.Model.Name, t.cfg.Model.Version, t.cfg.Tenant, job.Bulk
	q.Inputs, q.Outputs = slices.Clone(inputs), t.cfg.Outputs // their order is the producer's to change
	q.IdempotencyKey, q.Deadline = key, time.Now().Add(noDeadline)
	// The key says what is asked: nothing else is asked under it.
	id := job.DerivedID(q.Tenant, key)
	q.Fingerprint = max(1, binary.LittleEndian.Uint64(id[:]))
	if t.cfg.Again {
		v, err := t.jobs.Find(ctx, t.cfg.Tenant, job.Ticket{ID: id, Lane: job.Bulk, Fingerprint: q.Fingerprint}, 0)
		if err == nil || gateway.ProblemOf(err).Code != gateway.CodeUnknownJob {
			return v, err
		}
	}
	v, _, err := t.jobs.Submit(ctx, &s, t.cfg.Wait)
	if err != nil {
		return nil, err
	}
	*ticket, *submitted = v.Ticket, true
	return v, nil
}

// Forget implements Jobs.
func (t *throughGateway) Forget(ctx context.Context, keys []string) {
	if t.records == nil || len(keys) == 0 {
		return
	}
	ids := make([]job.ID, len(keys))
	t.mu.Lock()
	for i, key := range keys {
		ids[i] = job.DerivedID(t.cfg.Tenant, keyOf(key, t.moved[key]))
		delete(t.moved, key)
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, retryMost)
	defer cancel()
	for part := range slices.Chunk(ids, 1000) {
		if err := t.records.Delete(ctx, part...); err != nil {
			// They go when their time to live is over.
			t.log.Debug("cannot drop results that are written", "error", err)
			return
		}
	}
}
