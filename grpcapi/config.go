package grpcapi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Config holds the settings of an API. Start from [DefaultConfig].
type Config struct {
	// Version is the program's, as ServerMetadata gives it.
	Version string
	// MaxMessageBytes bounds a message of a client. It takes the place of Limits.MaxBytes.
	MaxMessageBytes int
	// Limits bounds what one request may ask for.
	Limits job.Limits
	// InferTimeout is how long ModelInfer waits if the call has no deadline.
	InferTimeout time.Duration
	// RetryAfter and RetryAfterMax are the least and the most that RetryInfo says. Between them it goes by backlog and
	// service rate.
	RetryAfter    time.Duration
	RetryAfterMax time.Duration
	// MaxConcurrentStreams bounds the calls of one connection; those beyond wait in the client.
	MaxConcurrentStreams int
	// MaxInHand bounds the requests of one ModelStreamInfer that are worked on at the same time; those beyond wait in the
	// client.
	MaxInHand int
	// MaxBulkStreams bounds the streams of BulkSubmit at a time; those beyond are refused.
	MaxBulkStreams int
	// BulkPatience is how long a BulkSubmit waits for a queue that takes nothing, and for its caller's rate.
	BulkPatience time.Duration
	// StreamIdle is for how long a client that streams may send nothing and read nothing while nothing is in hand.
	StreamIdle time.Duration
	// MessageTimeout bounds how long a client may take to send the one message of a call.
	MessageTimeout time.Duration
	// ConnectionTimeout bounds how long a client may take over its handshakes.
	ConnectionTimeout time.Duration
	// KeepaliveTime is after how long without a sign of life a client is asked for one, and KeepaliveTimeout how long it
	// may then take to give it.
	KeepaliveTime    time.Duration
	KeepaliveTimeout time.Duration
	// KeepaliveMinTime is how often a client may ask for a sign of life. One that asks more often is cut off.
	KeepaliveMinTime time.Duration
	// MaxConnectionAge is after how long a client is asked to connect anew, so that a new server gets its share of the
	// clients. Calls that are under way go on.
	MaxConnectionAge time.Duration
	// MaxConnectionIdle is how long a connection without calls is kept.
	MaxConnectionIdle time.Duration
	// CallerInterval is how often the caller of a stream is asked for again: a key may be revoked, a token expires.
	CallerInterval time.Duration
	// HealthInterval is how often readiness is looked at for who watches the health of the server.
	HealthInterval time.Duration
	// TLS is the server's side of TLS. Nil: plain text.
	TLS *tls.Config
}

// DefaultConfig returns the defaults: 8 MiB a message, 1,000 calls a connection, 256 requests of a stream in hand.
func DefaultConfig() Config {
	return Config{
		MaxMessageBytes:      8 << 20,
		Limits:               job.DefaultLimits(),
		InferTimeout:         30 * time.Second,
		RetryAfter:           time.Second,
		RetryAfterMax:        time.Minute,
		MaxConcurrentStreams: 1000,
		MaxInHand:            256,
		MaxBulkStreams:       256,
		BulkPatience:         30 * time.Second,
		StreamIdle:           5 * time.Minute,
		MessageTimeout:       30 * time.Second,
		ConnectionTimeout:    10 * time.Second,
		KeepaliveTime:        time.Minute,
		KeepaliveTimeout:     20 * time.Second,
		KeepaliveMinTime:     10 * time.Second,
		MaxConnectionAge:     30 * time.Minute,
		MaxConnectionIdle:    15 * time.Minute,
		CallerInterval:       5 * time.Second,
		HealthInterval:       time.Second,
	}
}

// Validate names every fault of the settings.
func (c *Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"InferTimeout", c.InferTimeout},
		{"RetryAfter", c.RetryAfter},
		{"BulkPatience", c.BulkPatience},
		{"StreamIdle", c.StreamIdle},
		{"MessageTimeout", c.MessageTimeout},
		{"ConnectionTimeout", c.ConnectionTimeout},
		{"KeepaliveTime", c.KeepaliveTime},
		{"KeepaliveTimeout", c.KeepaliveTimeout},
		{"KeepaliveMinTime", c.KeepaliveMinTime},
		{"MaxConnectionAge", c.MaxConnectionAge},
		{"MaxConnectionIdle", c.MaxConnectionIdle},
		{"CallerInterval", c.CallerInterval},
		{"HealthInterval", c.HealthInterval},
	} {
		if f.value <= 0 {
			errs = append(errs, fmt.Errorf("%s is %s: it must be positive", f.name, f.value))
		}
	}
	for _, f := range []struct {
		name        string
		value, most int
	}{
		{"MaxMessageBytes", c.MaxMessageBytes, 1 << 30},
		{"MaxConcurrentStreams", c.MaxConcurrentStreams, 1 << 20},
		{"MaxInHand", c.MaxInHand, 1 << 16},
		{"MaxBulkStreams", c.MaxBulkStreams, 1 << 16},
	} {
		if f.value < 1 || f.value > f.most {
			errs = append(errs, fmt.Errorf("%s is %d: expected 1 to %d", f.name, f.value, f.most))
		}
	}
	if c.RetryAfterMax < c.RetryAfter {
		errs = append(errs, fmt.Errorf("RetryAfterMax is %s: expected RetryAfter (%s) or more", c.RetryAfterMax, c.RetryAfter))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
