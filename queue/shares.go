package queue

import (
	"context"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// The tenants of a lane are spread over a fixed number of shares, each with a consumer of its own for every model, so
// that a tenant that floods is in the way of those of its own share only, and workers can take the shares in turn. The
// server does it: as it stores a message, it appends the share to the subject,
//
//	sheaf.<lane>.<model>.<tenant>  is stored as  sheaf.<lane>.<model>.<tenant>.<share>
//
// Nobody publishes that form, and nobody is shown it.

// MaxTenantShares is the most that Config.TenantShares may be.
const MaxTenantShares = 64

func shareSource(lane job.Lane) string { return subjectRoot + lane.String() + ".*.*" }

// shareTransform is how a lane's stream stores its messages; nil for one share, which needs no mark.
func shareTransform(lane job.Lane, shares int) *jetstream.SubjectTransformConfig {
	if shares <= 1 {
		return nil
	}
	before, after := shareMark(lane)
	return &jetstream.SubjectTransformConfig{Source: shareSource(lane), Destination: before + strconv.Itoa(shares) + after}
}

// shareMark is what stands before and after the number of shares in a transform's destination.
func shareMark(lane job.Lane) (before, after string) {
	return subjectRoot + lane.String() + ".{{wildcard(1)}}.{{wildcard(2)}}.{{partition(", ",2)}}"
}

// sharesOf is the number of shares of a lane's stream as it stands.
func sharesOf(lane job.Lane, t *jetstream.SubjectTransformConfig) (int, error) {
	if t == nil {
		return 1, nil
	}
	before, after := shareMark(lane)
	number, ok1 := strings.CutPrefix(t.Destination, before)
	number, ok2 := strings.CutSuffix(number, after)
	n, err := strconv.Atoi(number)
	if !ok1 || !ok2 || err != nil || n < 1 || n > MaxTenantShares || t.Source != shareSource(lane) {
		return 0, fmt.Errorf("stream %s has a subject transform that is not Sheaf's (%q to %q), and no worker would find its messages: remove it with `nats stream edit %s`",
			lane, t.Source, t.Destination, lane)
	}
	return n, nil
}

// Shares is over how many shares the tenants of a lane are spread: what its stream says, whatever this process's own
// setting is.
func (q *Queue) Shares(ctx context.Context, lane job.Lane) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, q.cfg.RequestTimeout)
	defer cancel()
	s, err := askAgain(ctx, func(ctx context.Context) (jetstream.Stream, error) { return q.js.Stream(ctx, lane.String()) })
	if err != nil {
		return 0, requestError("look at stream "+lane.String(), err)
	}
	n, err := sharesOf(lane, s.CachedInfo().Config.SubjectTransform)
	if err == nil {
		q.shares.note(lane, consumersFor(n))
	}
	return n, err
}

// consumerName is the durable name of the consumer of a model and share. No model's name has a '~'.
func consumerName(model string, share int) string {
	if share == 0 {
		return token(model)
	}
	return token(model) + "~" + strconv.Itoa(share)
}

// shareFilters are the stored subjects of a model and share. The first share has those without a mark too: they are of
// before the lane had shares.
func shareFilters(lane job.Lane, model string, share int) []string {
	all := subjectRoot + lane.String() + "." + token(model) + ".*"
	marked := all + "." + strconv.Itoa(share)
	if share == 0 {
		return []string{all, marked}
	}
	return []string{marked}
}

// shareWatch is how many shares each lane had when the stream was last looked at, the spare one included.
type shareWatch struct {
	lanes [2]struct {
		count  atomic.Int64
		at     atomic.Int64 // Unix nanoseconds
		asking atomic.Bool
	}
}

// sharesFor is how long a worker may not know of new shares.
const sharesFor = 10 * time.Second

func (w *shareWatch) note(lane job.Lane, shares int) {
	w.lanes[lane].count.Store(int64(shares))
	w.lanes[lane].at.Store(time.Now().UnixNano())
}

// watchedShares is how many shares the lane had a moment ago. It does not wait: it has the stream looked at again, if
// that was not done of late.
func (q *Queue) watchedShares(lane job.Lane) int {
	w := &q.shares.lanes[lane]
	if time.Now().UnixNano()-w.at.Load() > int64(sharesFor) && w.asking.CompareAndSwap(false, true) {
		ask := func() {
			defer w.asking.Store(false)
			if _, err := q.Shares(q.life, lane); err != nil {
				w.at.Store(time.Now().UnixNano()) // what is wrong is told by whoever fetches
			}
		}
		if !q.spawn(ask) {
			w.asking.Store(false)
		}
	}
	return int(w.count.Load())
}

// shareOf is the share that the server gives a tenant: FNV-1a of its token, as its subject mapping has it.
func shareOf(tenant string, shares int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(token(tenant)))  // never fails
	return int(h.Sum32() % uint32(shares)) //nolint:gosec // 1 to 64
}
