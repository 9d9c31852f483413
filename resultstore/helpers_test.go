package resultstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

func newID(t *testing.T) job.ID {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// put writes one record and returns what became of it.
func put(ctx context.Context, t *testing.T, s resultstore.Store, id job.ID, text string) (resultstore.Outcome, error) {
	t.Helper()
	outcomes, err := s.Finish(ctx, []resultstore.Entry{{ID: id, Record: []byte(text)}})
	if len(outcomes) != 1 {
		t.Fatalf("%d outcomes of one entry", len(outcomes))
	}
	if !errors.Is(err, outcomes[0].Err) {
		t.Fatalf("the error %v is not the outcome's %v", err, outcomes[0].Err)
	}
	return outcomes[0], err
}

func mustWin(t *testing.T, s resultstore.Store, id job.ID, text string) {
	t.Helper()
	if o, err := put(t.Context(), t, s, id, text); err != nil || !o.Won {
		t.Fatalf("write %q: %+v, %v; want it to win", text, o, err)
	}
}

func mustHave(t *testing.T, s resultstore.Store, id job.ID, text string) {
	t.Helper()
	got, err := s.Get(t.Context(), id)
	if err != nil || len(got) != 1 || string(got[0]) != text {
		t.Fatalf("Get: %q, %v; want %q", got, err, text)
	}
}

func mustLose(t *testing.T, s resultstore.Store, id job.ID, text, existing string) {
	t.Helper()
	if o, err := put(t.Context(), t, s, id, text); err != nil || o.Won || string(o.Existing) != existing {
		t.Fatalf("write %q: %+v, %v; want it to lose against %q", text, o, err, existing)
	}
}

// wantUnavailable checks an error of a store that is away, and that it says why.
func wantUnavailable(t *testing.T, what string, err error, says string) {
	t.Helper()
	if !errors.Is(err, resultstore.ErrUnavailable) || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v; want ErrUnavailable, with %q", what, err, says)
	}
}

// patience is how long a test waits for what must happen. A sentinel that was not scheduled for two seconds does nothing
// for the next thirty (its TILT mode), and only then begins a failover.
const patience = 2 * time.Minute

// eventually repeats try until it returns true.
func eventually(t *testing.T, what string, try func() bool) {
	t.Helper()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	for deadline := time.Now().Add(patience); !try(); <-pace.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for this: %s", patience, what)
		}
	}
}

// heals waits until the store takes the record, and checks that Ping then says so.
func heals(t *testing.T, s resultstore.Store, id job.ID, text string) {
	t.Helper()
	eventually(t, "the store heals", func() bool {
		o, err := put(t.Context(), t, s, id, text)
		if err != nil && !errors.Is(err, resultstore.ErrUnavailable) {
			t.Fatalf("while it heals: %v", err)
		}
		return err == nil && o.Won
	})
	eventually(t, "Ping is content", func() bool { return s.Ping(t.Context()) == nil })
}

// logBuffer is a log that a test can read.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// serve accepts connections and handles each until the test ends.
func serve(t *testing.T, handle func(net.Conn)) (addr string) {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// cutter is a proxy before Redis that can swallow answers: armed, it hands the next write on, waits for Redis's
// answer, and breaks the connection instead of delivering it.
type cutter struct {
	mu    sync.Mutex
	armed int
	cut   int
}

func (c *cutter) arm(times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = times
}

// cuts is how many answers were swallowed.
func (c *cutter) cuts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *cutter) swallow(request []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.armed == 0 || !bytes.Contains(request, []byte("NX")) {
		return false
	}
	c.armed--
	c.cut++
	return true
}

func (c *cutter) handle(to string) func(net.Conn) {
	return func(client net.Conn) {
		server, err := net.Dial("tcp", to) //nolint:noctx // ends with the client's connection
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		request, answer := make([]byte, 64<<10), make([]byte, 64<<10)
		for {
			n, err := client.Read(request)
			if err != nil {
				return
			}
			if _, err := server.Write(request[:n]); err != nil {
				return
			}
			m, err := server.Read(answer)
			if err != nil || c.swallow(request[:n]) {
				return
			}
			if _, err := io.Copy(client, bytes.NewReader(answer[:m])); err != nil {
				return
			}
		}
	}
}
