package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"
)

// checkAddress names a malformed address. flag is the setting that named it.
func checkAddress(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return withCode(exitUsage, fmt.Errorf("--%s %q: expected HOST:PORT, such as 127.0.0.1:8080; port 0 is any free one", flag, addr))
	}
	return nil
}

// loopback reports whether an address can be reached from this machine alone.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// listen opens a TCP address, with an error that says what to do. flag is the setting that named it.
func listen(ctx context.Context, flag, addr string) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s (--%s chooses another address, port 0 any free one): %w", addr, flag, err)
	}
	return l, nil
}

// drainer is a listener that answers requests itself. Shutdown waits for those in hand.
type drainer interface {
	Shutdown(ctx context.Context) error
}

// serveUntil serves until ctx ends, then gives requests in flight the drain time.
func serveUntil(ctx context.Context, srv *http.Server, l net.Listener, drain time.Duration, logger *slog.Logger) error {
	failed := make(chan error, 1)
	go func() {
		if srv.TLSConfig != nil {
			failed <- srv.ServeTLS(l, "", "")
			return
		}
		failed <- srv.Serve(l)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	err := srv.Shutdown(stop)
	if d, ok := l.(drainer); ok {
		err = errors.Join(err, d.Shutdown(stop))
	}
	if err != nil {
		logger.Warn("requests were still in flight at the end of the drain time", "error", err)
		_ = srv.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// baseURL is how a client on this machine reaches the listener.
func baseURL(l net.Listener, secure bool) string {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return scheme + l.Addr().String()
	}
	host := addr.IP.String()
	if addr.IP.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}
