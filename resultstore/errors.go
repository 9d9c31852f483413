package resultstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// storeError is an error of a store with its kind, which is what metrics count by.
type storeError struct {
	kind        string
	unavailable bool
	hint        string // what is wrong and what to do, for people
	cause       error
}

func (e *storeError) Error() string {
	b := make([]string, 0, 3)
	if e.unavailable {
		b = append(b, ErrUnavailable.Error())
	}
	if e.hint != "" {
		b = append(b, e.hint)
	}
	if e.cause != nil {
		b = append(b, e.cause.Error())
	}
	return strings.Join(b, ": ")
}

func (e *storeError) Unwrap() []error {
	var all []error
	if e.unavailable {
		all = append(all, ErrUnavailable)
	}
	if e.cause != nil {
		all = append(all, e.cause)
	}
	return all
}

// errorKind is the kind of any error that a store returns.
func errorKind(err error) string {
	var e *storeError
	switch {
	case errors.As(err, &e):
		return e.kind
	case errors.Is(err, ErrClosed):
		return "closed"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded):
		return "timeout"
	}
	return "refused"
}

// contextError is what becomes of a call whose context is over. Time that has run out may have been the store's fault;
// a caller who gives up says nothing of the store.
func contextError(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &storeError{kind: "timeout", unavailable: true, hint: "no answer in the time that the caller gave", cause: ctx.Err()}
	}
	return fmt.Errorf("the caller gave up: %w", ctx.Err())
}

// answers lists what Redis says when it does not serve a command, by how its message starts.
var answers = []struct{ prefix, kind, hint string }{
	{"READONLY", "readonly", "this Redis is a read-only replica; the address of the primary is needed, or a failover is under way"},
	{"OOM", "full", "Redis is out of memory; raise maxmemory, or wait until results expire"},
	{"LOADING", "loading", "Redis is still loading its data"},
	{"MASTERDOWN", "failover", "this Redis is a replica that has lost its primary"},
	{"CLUSTERDOWN", "failover", "the Redis Cluster does not serve this key now"},
	{"TRYAGAIN", "failover", "the Redis Cluster is moving this key"},
	{"MOVED", "failover", "the Redis Cluster is moving this key"},
	{"ASK", "failover", "the Redis Cluster is moving this key"},
	{"UNBLOCKED", "failover", "this Redis has become a replica"},
	{"ERR WAIT cannot be used with replica", "readonly", "this Redis is a replica; a failover is under way"},
	{"NOREPLICAS", "replicas", "Redis has fewer replicas than min-replicas-to-write asks for"},
	{"MISCONF", "disk", "Redis cannot write to its disk"},
	{"ERR max number of clients", "connection", "Redis has as many connections as maxclients allows"},
	{"BUSY", "timeout", "Redis is busy with a script"},
	{"NOAUTH", "auth", "Redis asks for a password; set one"},
	{"WRONGPASS", "auth", "Redis refuses the user name or password"},
	{"NOPERM", "auth", "the Redis user may not do this; it needs +set +get +mget on the keys of the prefix, and +wait to wait for replicas"},
	{"UNKILLABLE", "timeout", "Redis is busy with a script"},
}

// classify turns an error of go-redis into one of ours. ctx is the caller's.
func (r *Redis) classify(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*storeError](err); ok {
		return err
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, redis.ErrClosed) && r.closed.Load():
		return ErrClosed
	case errors.Is(err, redis.ErrClosed):
		return &storeError{kind: "failover", unavailable: true, hint: "a node has left the Redis Cluster", cause: err}
	case ctx.Err() != nil:
		return contextError(ctx)
	}
	if said, ok := errors.AsType[redis.Error](err); ok {
		return classifyAnswer(err, said.Error())
	}
	// All else happened on the way: nobody listens, the connection broke, no answer in time, no free connection, no
	// primary known to the sentinels.
	e := &storeError{kind: "connection", unavailable: true, hint: "Redis is out of reach", cause: err}
	var slow interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, redis.ErrPoolTimeout) || errors.As(err, &slow) && slow.Timeout() {
		e.kind, e.hint = "timeout", "Redis did not answer in time"
	}
	return e
}

func classifyAnswer(err error, said string) error {
	for _, a := range answers {
		if strings.HasPrefix(said, a.prefix) {
			return &storeError{kind: a.kind, unavailable: true, hint: a.hint, cause: err}
		}
	}
	return &storeError{kind: "refused", hint: "Redis refused the command", cause: err}
}
