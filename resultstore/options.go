package resultstore

import (
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"
)

// Option is a dependency of a store that is not a setting.
type Option func(*deps)

type deps struct {
	log      *slog.Logger
	registry prometheus.Registerer
}

func newDeps(opts []Option) deps {
	d := deps{log: slog.New(slog.DiscardHandler)}
	for _, o := range opts {
		o(&d)
	}
	return d
}

// WithLogger makes the store tell of settings of Redis that endanger results. Without it nothing is logged.
func WithLogger(log *slog.Logger) Option {
	return func(d *deps) {
		if log != nil {
			d.log = log
		}
	}
}

// WithRegisterer registers the metrics of the store. Without it there are none.
func WithRegisterer(r prometheus.Registerer) Option { return func(d *deps) { d.registry = r } }
