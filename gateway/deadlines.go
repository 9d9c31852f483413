package gateway

import (
	"context"
	"sync/atomic"
	"time"
)

// deadlines limits calls in time. Those that begin at nearly the same time, and that nobody can call off, share one
// timer: one for each costs as much as all else that the gateway does with a submit.
type deadlines struct {
	timeout time.Duration
	last    atomic.Pointer[sharedDeadline]
}

// sharedDeadline is the context of the calls that begin before fresh is over.
type sharedDeadline struct {
	context.Context //nolint:containedctx // it is one, for many
	fresh           time.Time
}

// share is the part of the timeout by which a shared deadline may be early.
const share = 16

// limit returns a context that ends after the timeout, or up to a sixteenth earlier, and with ctx.
func (d *deadlines) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Done() != nil {
		return context.WithTimeout(ctx, d.timeout)
	}
	now := time.Now()
	s := d.last.Load()
	if s == nil || now.After(s.fresh) {
		ends, cancel := context.WithTimeout(context.Background(), d.timeout)
		context.AfterFunc(ends, cancel) // it ends by itself, since nobody knows who uses it
		s = &sharedDeadline{ends, now.Add(d.timeout / share)}
		d.last.Store(s)
	}
	if ctx == context.Background() {
		return s, func() {}
	}
	return &valued{s, ctx}, func() {}
}

// valued is a shared deadline with the values of one call.
type valued struct {
	*sharedDeadline
	values context.Context //nolint:containedctx // whose values it has
}

// Value implements context.Context.
func (v *valued) Value(key any) any { return v.values.Value(key) }
