package grpcapi

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sheafml/sheaf/gateway"
)

// idle tells when nothing moves on a stream: no message came and no answer was taken for the limit, and nothing is being
// worked on. A stream that does not end then, because it waits for its client to read, is cut off.
type idle struct {
	limit time.Duration
	began time.Time
	moved atomic.Int64 // when something moved last, since began
	busy  atomic.Int64 // requests that are worked on
	held  atomic.Int64 // who waits for the client to read, so that the rest cannot be worked on
	over  chan struct{}
	timer *time.Timer
	cut   context.CancelFunc
}

type idleKey struct{}

// idleGrace is how long a stream that is told to be idle may take to end.
const idleGrace = time.Second

// watchIdle returns the context of a stream that is watched.
func watchIdle(ctx context.Context, limit time.Duration) context.Context {
	l := &idle{limit: limit, began: time.Now(), over: make(chan struct{})}
	ctx, l.cut = context.WithCancel(ctx)
	armed := make(chan struct{})
	l.timer = time.AfterFunc(limit, func() {
		<-armed
		l.check(ctx)
	})
	close(armed)
	return context.WithValue(ctx, idleKey{}, l)
}

// idleOf returns what watches a stream, nil if nothing does.
func idleOf(ctx context.Context) *idle {
	l, _ := ctx.Value(idleKey{}).(*idle)
	return l
}

// check is called by the timer.
func (l *idle) check(ctx context.Context) {
	quiet := time.Since(l.began) - time.Duration(l.moved.Load())
	switch {
	case ctx.Err() != nil: // the call has ended
	case l.isOver():
		l.cut()
	case l.busy.Load() > 0 && l.held.Load() == 0:
		l.timer.Reset(l.limit)
	case quiet < l.limit:
		l.timer.Reset(l.limit - quiet)
	default:
		close(l.over)
		l.timer.Reset(idleGrace)
	}
}

func (l *idle) isOver() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// problem is what an idle stream ends with.
func (l *idle) problem() error {
	return &gateway.Problem{
		Code: gateway.CodeSlowBody, Detail: fmt.Sprintf("nothing was sent or read for %s; open a new stream when there is something to ask", l.limit),
	}
}

// move says that a message came or an answer went.
func (l *idle) move() {
	if l != nil {
		l.moved.Store(int64(time.Since(l.began)))
	}
}

// begin says that a request is being worked on, until end.
func (l *idle) begin() { l.busy.Add(1) }

func (l *idle) end() {
	l.move()
	l.busy.Add(-1)
}

// hold says that the client is waited for, until release.
func (l *idle) hold()    { l.held.Add(1) }
func (l *idle) release() { l.held.Add(-1) }

// stop ends the watch. The context is left to end with the call: a read that is under way would fail otherwise, and grpc
// would answer the call with that before its status.
func (l *idle) stop() {
	if l != nil {
		l.timer.Stop()
	}
}
