package queue

import (
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
)

// Option is a dependency of a Queue that is not a setting.
type Option func(*deps)

type deps struct {
	log       *slog.Logger
	registry  prometheus.Registerer
	inProcess InProcess
}

// WithLogger makes the Queue tell of lost and restored connections. Without it nothing is logged.
func WithLogger(log *slog.Logger) Option {
	return func(d *deps) {
		if log != nil {
			d.log = log
		}
	}
}

// WithRegisterer registers the metrics of the Queue. Without it there are none.
func WithRegisterer(r prometheus.Registerer) Option { return func(d *deps) { d.registry = r } }

// InProcess is a server in the same process, such as embedded.Server.
type InProcess interface {
	InProcessConn() (net.Conn, error)
}

// WithInProcess connects to a server in the same process, without a socket. Config.URL is not used then.
func WithInProcess(server InProcess) Option { return func(d *deps) { d.inProcess = server } }
