package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// Tenants of one share would wait behind whoever floods it. So a lane of several shares has a spare one: while others of
// its share have more waiting than a tenant has, it is published past them,
//
//	sheaf.<lane>.<model>.<tenant>.<shares>
//
// which the server stores as it is. It is for whoever publishes to see that, since only he can choose; a message that
// comes without a share, as the wire contract has it, goes to the share of its tenant.

// A tenant has no more in the spare share than one message for pastOf that wait in its own: someone who floods, too, is
// of no use to himself there, and a nuisance to others.
const pastOf = 4

// glanceTime bounds what a publish waits until it is known how much waits. It waits for that only if nothing has been
// published to the model for some time.
const glanceTime = 50 * time.Millisecond

// consumersFor is how many consumers a lane and model have: one for each share, and for the spare one.
func consumersFor(shares int) int {
	if shares <= 1 {
		return 1
	}
	return shares + 1
}

// laneSubjects are the subjects that a lane's stream takes. One with another number of tokens names no tenant, or no
// share that is served: its publish is refused, since no worker would ever get it.
func laneSubjects(lane job.Lane, shares int) []string {
	list := []string{shareSource(lane)}
	if shares > 1 {
		list = append(list, shareSource(lane)+"."+strconv.Itoa(shares))
	}
	return list
}

// withSubjects adds to the stream's subjects those that it lacks.
func withSubjects(have, want []string) []string {
	for _, s := range want {
		if !slices.Contains(have, s) {
			have = append(slices.Clone(have), s)
		}
	}
	return have
}

// shareFor is the share that a message which the tenant publishes now should have. spare says that it is the spare one.
func (q *Queue) shareFor(ctx context.Context, k subjectKey, p *progress) (share int, spare bool) {
	n := len(p.shares)
	if n == 1 {
		return 0, false
	}
	share = shareOf(k.tenant, n-1)
	crowd, aside := p.shares[share].waiting, &p.shares[n-1]
	if !aside.served || 2*(aside.waiting+p.passed.Load()) >= crowd {
		return share, false
	}
	own, ok := q.owns(ctx, k, p.seen)
	if !ok || 2*own[share] >= crowd || pastOf*own[n-1] > crowd {
		return share, false
	}
	return n - 1, true
}

// route is the subject under which to publish now. What cannot be learned in a moment is not waited for.
func (q *Queue) route(ctx context.Context, k subjectKey) string {
	s := subject(k.lane, k.model, k.tenant)
	if up, _ := q.link.state(); !up {
		return s
	}
	p := q.glance(ctx, progressKey{k.lane, k.model})
	if p == nil {
		return s
	}
	share, spare := q.shareFor(ctx, k, p)
	if !spare {
		return s
	}
	p.passed.Add(1)
	return s + "." + strconv.Itoa(share)
}

// glance is what was seen of the consumers of late, nil if nothing was. What gets old is looked at anew for the next one
// who asks.
func (q *Queue) glance(ctx context.Context, k progressKey) *progress {
	load, r, mine := q.infos.get(k, time.Now())
	if mine && !q.spawn(func() { q.refresh(q.life, k, r) }) {
		q.infos.set(k, r, nil, ErrClosed)
	}
	if r == nil || load.progress != nil {
		return load.progress
	}
	if !soon(ctx, r.done) {
		return nil
	}
	return r.load.progress
}

// soon waits for glanceTime at most; false if it was in vain.
func soon(ctx context.Context, done <-chan struct{}) bool {
	timer := time.NewTimer(glanceTime)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-ctx.Done():
	case <-timer.C:
	}
	return false
}

// holdings remembers for a moment how many messages tenants have in a lane.
type holdings struct {
	mu   sync.Mutex
	seen map[subjectKey]*holding
}

type holding struct {
	at     time.Time // when what was answered last was asked; zero if nothing was
	n      owned
	asking chan struct{} // closed at the end of the question under way, nil if there is none
}

// owned is how many messages a tenant has in each share, those that are delivered included. It is not written to.
type owned map[int]uint64

// maxHoldings bounds the tenants that are remembered.
const maxHoldings = 1024

// owns is what the tenant had in the lane for the model at some time after since; false if that does not become known.
// Were it from before the others were counted, a tenant's own crowd would look like theirs.
func (q *Queue) owns(ctx context.Context, k subjectKey, since time.Time) (n owned, ok bool) {
	h := &q.holdings
	h.mu.Lock()
	e := h.seen[k]
	if e == nil {
		if len(h.seen) >= maxHoldings || h.seen == nil {
			h.seen = make(map[subjectKey]*holding)
		}
		e = &holding{}
		h.seen[k] = e
	}
	if e.at.After(since) {
		defer h.mu.Unlock()
		return e.n, true
	}
	if e.asking == nil {
		e.asking = make(chan struct{})
		if !q.spawn(func() { q.count(q.life, k, e) }) {
			close(e.asking)
		}
	}
	asking := e.asking
	h.mu.Unlock()
	if !soon(ctx, asking) {
		return nil, false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return e.n, e.at.After(since)
}

// count asks the stream how many messages the tenant has.
func (q *Queue) count(ctx context.Context, k subjectKey, e *holding) {
	at := time.Now()
	n, err := q.askHolding(ctx, k)
	q.holdings.mu.Lock()
	defer q.holdings.mu.Unlock()
	if err == nil {
		e.n, e.at = n, at
	}
	close(e.asking)
	e.asking = nil
}

func (q *Queue) askHolding(ctx context.Context, k subjectKey) (owned, error) {
	body, err := json.Marshal(map[string]string{"subjects_filter": subject(k.lane, k.model, k.tenant) + ".*"})
	if err != nil {
		return nil, fmt.Errorf("encode a question: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	m, err := q.conn.RequestWithContext(ctx, q.api+"STREAM.INFO."+k.lane.String(), body)
	if err != nil {
		return nil, err
	}
	var r struct {
		Error *jetstream.APIError `json:"error"`
		State struct {
			Subjects map[string]uint64 `json:"subjects"`
		} `json:"state"`
	}
	if err := json.Unmarshal(m.Data, &r); err != nil {
		return nil, fmt.Errorf("the answer is not JetStream's: %w", err)
	}
	if r.Error != nil {
		return nil, r.Error
	}
	n := owned{}
	for s, messages := range r.State.Subjects {
		_, share := cutShare(s)
		n[share] += messages
	}
	return n, nil
}
