package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
)

// logger gives what the server says to slog: notices are for debugging, since the process has a voice of its own.
type logger struct {
	log    *slog.Logger
	faults *faultKeeper
}

func (l *logger) write(level slog.Level, format string, args []any) {
	if l.log != nil {
		l.log.Log(context.Background(), level, "nats-server: "+fmt.Sprintf(format, args...))
	}
}

func (l *logger) Noticef(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
func (l *logger) Warnf(format string, args ...any)   { l.write(slog.LevelWarn, format, args) }
func (l *logger) Debugf(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l *logger) Tracef(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }

func (l *logger) Errorf(format string, args ...any) {
	l.faults.keep(fmt.Sprintf(format, args...))
	l.write(slog.LevelError, format, args)
}

func (l *logger) Fatalf(format string, args ...any) {
	l.faults.keepFatal(fmt.Sprintf(format, args...))
	l.write(slog.LevelError, format, args)
}

// faultKeeper remembers the last error, which the server only logs, so that Start can return it.
type faultKeeper struct {
	mu    sync.Mutex
	text  string
	fatal bool // the server cannot go on after text
}

func (f *faultKeeper) keep(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.fatal {
		f.text = text
	}
}

func (f *faultKeeper) keepFatal(text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.text, f.fatal = text, true
}

func (f *faultKeeper) isFatal() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fatal
}

func (f *faultKeeper) last() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text
}
