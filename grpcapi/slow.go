package grpcapi

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/tap"
)

// errSlow ends calls whose message does not come.
var errSlow = errors.New("the message did not arrive in time")

// reading is the time that a client has for the one message of a call.
type reading struct{ timer *time.Timer }

type readingKey struct{}

// startReading is told of each call when its headers are there. A client that then takes its time over the message would
// hold a goroutine and a buffer for as long as it likes. Streams of clients have no end that could be waited for; those are
// ended when they are idle.
func (a *API) startReading(ctx context.Context, info *tap.Info) (context.Context, error) {
	single, known := a.single[info.FullMethodName]
	switch {
	case !known:
		return ctx, nil
	case !single:
		return watchIdle(ctx, a.cfg.StreamIdle), nil
	}
	// Its parent ends with the call.
	ctx, cancel := context.WithCancelCause(ctx)
	r := &reading{time.AfterFunc(a.cfg.MessageTimeout, func() { cancel(errSlow) })}
	return context.WithValue(ctx, readingKey{}, r), nil
}

// doneReading says that the message is there.
func doneReading(ctx context.Context) {
	if r, ok := ctx.Value(readingKey{}).(*reading); ok {
		r.timer.Stop()
	}
}
