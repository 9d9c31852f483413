package httpapi

import (
	"errors"
	"fmt"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Config holds the settings of an API. Start from [DefaultConfig].
type Config struct {
	// Version is the program's, as GET /v2 gives it.
	Version string
	// MaxBodyBytes bounds the body of a request. It takes the place of Limits.MaxBytes.
	MaxBodyBytes int64
	// Limits bounds what one request may ask for.
	Limits job.Limits
	// PredictTimeout is how long /predict waits if the client has no preference.
	PredictTimeout time.Duration
	// BodyTimeout bounds how long a client may take to send its body.
	BodyTimeout time.Duration
	// HeaderTimeout bounds how long a client may take to send its headers, and IdleTimeout how long a connection may stay
	// open between two requests.
	HeaderTimeout time.Duration
	IdleTimeout   time.Duration
	// MaxHeaderBytes bounds the headers of a request, its request line included.
	MaxHeaderBytes int
	// CORSOrigins are the origins whose pages may call the API, such as https://app.example.com; "*" is any, none is none.
	CORSOrigins []string
	// AdminTimeout bounds what an administrator asks for, but for acts on many jobs, which take as long as there are any.
	AdminTimeout time.Duration
	// RetryAfter and RetryAfterMax are the least and the most that Retry-After says, in whole seconds rounded up. Between
	// them it goes by backlog and service rate.
	RetryAfter    time.Duration
	RetryAfterMax time.Duration
	// AdminLocal says that the API can be reached from this machine alone. The routes under /v1/admin are served then
	// without authentication too, to who is on this machine.
	AdminLocal bool
	// Streams are the settings of the routes that are about many jobs.
	Streams StreamConfig
}

// DefaultConfig returns the defaults: 8 MiB a body, 30 s for /predict.
func DefaultConfig() Config {
	return Config{
		MaxBodyBytes:   8 << 20,
		Limits:         job.DefaultLimits(),
		PredictTimeout: 30 * time.Second,
		BodyTimeout:    30 * time.Second,
		HeaderTimeout:  10 * time.Second,
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		AdminTimeout:   10 * time.Second,
		RetryAfter:     time.Second,
		RetryAfterMax:  time.Minute,
		Streams:        DefaultStreamConfig(),
	}
}

// Validate names every fault of the settings.
func (c *Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value time.Duration
	}{
		{"PredictTimeout", c.PredictTimeout},
		{"BodyTimeout", c.BodyTimeout},
		{"HeaderTimeout", c.HeaderTimeout},
		{"IdleTimeout", c.IdleTimeout},
		{"AdminTimeout", c.AdminTimeout},
		{"RetryAfter", c.RetryAfter},
	} {
		if f.value <= 0 {
			errs = append(errs, fmt.Errorf("%s is %s: it must be positive", f.name, f.value))
		}
	}
	if c.MaxBodyBytes < 1 || c.MaxBodyBytes > 1<<30 {
		errs = append(errs, fmt.Errorf("MaxBodyBytes is %d: expected 1 to %d", c.MaxBodyBytes, 1<<30))
	}
	if c.MaxHeaderBytes < 1<<10 || c.MaxHeaderBytes > 1<<20 {
		errs = append(errs, fmt.Errorf("MaxHeaderBytes is %d: expected %d to %d", c.MaxHeaderBytes, 1<<10, 1<<20))
	}
	if err := checkOrigins(c.CORSOrigins); err != nil {
		errs = append(errs, err)
	}
	if c.RetryAfterMax < c.RetryAfter || c.RetryAfterMax > maxRetryAfter {
		errs = append(errs, fmt.Errorf("RetryAfterMax is %s: expected RetryAfter (%s) to %s", c.RetryAfterMax, c.RetryAfter, maxRetryAfter))
	}
	if err := c.Limits.Validate(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.Streams.validate())
	return errors.Join(errs...)
}

// maxRetryAfter keeps clients from being sent away for good.
const maxRetryAfter = 24 * time.Hour
