package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Errors that a caller tells apart.
var (
	// ErrTenantFull says that the tenant has as many messages waiting for this model as it may: try later (429).
	ErrTenantFull = errors.New("the tenant's queue for this model is full")
	// ErrFull says that the stream or the server's storage is full, for everybody: try later (503).
	ErrFull = errors.New("the queue is full")
	// ErrUnavailable says that JetStream did not answer in time: try later (503).
	ErrUnavailable = errors.New("NATS is out of reach")
	// ErrTooLarge says that the job does not fit into one message (413).
	ErrTooLarge = errors.New("the job is larger than the queue takes")
	// ErrLapsed says that the lease is over: the message may have been delivered to another worker.
	ErrLapsed = errors.New("the lease has lapsed")
	// ErrUncertain marks the error of a publish that was sent and not answered: the job may have been accepted.
	ErrUncertain = errors.New("the job may have been accepted")
	// ErrExists says that a key of a bucket has a value already.
	ErrExists = errors.New("the key exists already")
	// ErrClosed says that the Queue was closed.
	ErrClosed = errors.New("the queue's connection is closed")
)

// Codes of JetStream errors that nats.go has no name for.
const (
	codeAccountResources  jetstream.ErrorCode = 10002
	codeClusterNotReady   jetstream.ErrorCode = 10008
	codeInsufficient      jetstream.ErrorCode = 10023
	codeMemoryExceeded    jetstream.ErrorCode = 10028
	codeStorageExceeded   jetstream.ErrorCode = 10047
	codeStreamCreate      jetstream.ErrorCode = 10049
	codeDeleteFailed      jetstream.ErrorCode = 10057
	codeReplicasNoCluster jetstream.ErrorCode = 10074
	codeStoreFailed       jetstream.ErrorCode = 10077
	codeDuplicatePending  jetstream.ErrorCode = 10158
	codeTooManyRequests   jetstream.ErrorCode = 10167
)

// publishError turns what the server answered to a publish into one of the package's errors. retry says that the
// same message may be accepted a moment later.
func publishError(e *jetstream.APIError) (retry bool, err error) {
	switch e.ErrorCode {
	case codeStoreFailed:
		switch {
		case strings.Contains(e.Description, "per subject"):
			return false, ErrTenantFull
		case strings.Contains(e.Description, "store is closed"):
			return true, fmt.Errorf("%w: %s", ErrUnavailable, e.Description)
		}
		return false, fmt.Errorf("%w: %s", ErrFull, e.Description)
	case codeInsufficient, codeAccountResources, codeMemoryExceeded, codeStorageExceeded:
		return false, fmt.Errorf("%w: %s", ErrFull, e.Description)
	case jetstream.JSErrCodeStreamMessageExceedsMaximum:
		return false, fmt.Errorf("%w: %s", ErrTooLarge, e.Description)
	case codeTooManyRequests:
		return true, fmt.Errorf("%w: %s", ErrFull, e.Description)
	case codeClusterNotReady, codeDuplicatePending:
		return true, fmt.Errorf("%w: %s", ErrUnavailable, e.Description)
	}
	if e.Code == 503 {
		return true, fmt.Errorf("%w: %s (JetStream error %d)", ErrUnavailable, e.Description, e.ErrorCode)
	}
	return false, fmt.Errorf("JetStream refused the message: %s (error %d)", e.Description, e.ErrorCode)
}

// transient reports whether a management request that failed so may succeed a moment later.
func transient(err error) bool {
	var api jetstream.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil {
		switch api.APIError().ErrorCode {
		case codeClusterNotReady, codeStreamCreate, jetstream.JSErrCodeStreamNameInUse:
			return true
		case codeInsufficient, jetstream.JSErrCodeJetStreamNotEnabledForAccount:
			return false
		}
		return api.APIError().Code == 503
	}
	return unreachable(err)
}

// unreachable reports whether the error means that no server answered.
func unreachable(err error) bool {
	for _, e := range []error{
		nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected, nats.ErrNoServers, nats.ErrReconnectBufExceeded,
		nats.ErrConnectionReconnecting, nats.ErrConnectionClosed, nats.ErrConnectionDraining, nats.ErrStaleConnection,
		context.DeadlineExceeded, jetstream.ErrJetStreamNotEnabled,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// requestError gives the error of a request its context, and ErrUnavailable if nobody answered.
func requestError(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, jetstream.ErrJetStreamNotEnabled):
		return fmt.Errorf("%s: %w: JetStream does not answer (%w); is nats-server running with -js?", what, ErrUnavailable, err)
	case unreachable(err):
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
