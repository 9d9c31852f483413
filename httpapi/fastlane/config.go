package fastlane

import (
	"errors"
	"fmt"
	"time"
)

// Config holds the settings of a Lane.
type Config struct {
	// Prefix and Suffix are what stands before and behind the name in the path of a request that the lane answers, such as
	// "/v1/models/" and "/jobs". The name has letters, digits, '-', '_' and '.', and begins with a letter or a digit.
	Prefix, Suffix string
	// MaxBodyBytes bounds the bodies that the lane reads; larger ones are net/http's.
	MaxBodyBytes int
	// HeaderTimeout is how long a new connection may say nothing, IdleTimeout how long one that has been answered may, and
	// WriteTimeout how long a client may take to read an answer. They are kept to an eighth.
	HeaderTimeout, IdleTimeout, WriteTimeout time.Duration
	// Header are lines that every answer has, each "Name: value".
	Header []string
	// Panicked is told of a panic, which ends its connection alone. Nil tells nobody.
	Panicked func(v any)
}

// bodyPatience is how long the lane waits for a body. net/http, which gets the connection then, waits for longer.
const bodyPatience = time.Second

const (
	// startBytes is the buffer of a connection. A head that is larger is net/http's.
	startBytes = 4 << 10
	// keepBytes is how large a buffer may be that is kept for the connection's next request.
	keepBytes = 16 << 10
	// maxBodyBytes bounds MaxBodyBytes: the length has at most nine digits.
	maxBodyBytes = 100_000_000
)

func (c *Config) validate() error {
	var errs []error
	if c.Prefix == "" || c.Suffix == "" {
		errs = append(errs, fmt.Errorf("the Prefix is %q and the Suffix is %q: both are needed", c.Prefix, c.Suffix))
	}
	if c.MaxBodyBytes < 1 || c.MaxBodyBytes > maxBodyBytes {
		errs = append(errs, fmt.Errorf("MaxBodyBytes is %d: expected 1 to %d", c.MaxBodyBytes, maxBodyBytes))
	}
	for _, f := range []struct {
		name  string
		value time.Duration
	}{{"HeaderTimeout", c.HeaderTimeout}, {"IdleTimeout", c.IdleTimeout}, {"WriteTimeout", c.WriteTimeout}} {
		if f.value <= 0 {
			errs = append(errs, fmt.Errorf("%s is %s: it must be positive", f.name, f.value))
		}
	}
	return errors.Join(errs...)
}
