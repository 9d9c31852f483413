package resultstore_test

import (
	"bytes"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
)

// failover is a proxy before one Redis. Armed, it hands the next pipeline with a WAIT on, breaks the connection when that
// is answered, and from then on leads to another Redis: as a client of Sentinel meets a fail-over.
type failover struct {
	mu            sync.Mutex
	to, then      string
	armed         bool
	swallow       bool // the answer
	pipelinesSent int  // with a WAIT, to whichever
}

func (f *failover) target() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to
}

func (f *failover) arm(then string, swallow bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.then, f.swallow, f.armed, f.pipelinesSent = then, swallow, true, 0
}

func (f *failover) pipelines() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.pipelinesSent
}

// answered notes that a pipeline with a WAIT was answered, and says what is to become of the answer and the connection.
func (f *failover) answered() (deliver, goOn bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pipelinesSent++
	if !f.armed {
		return true, true
	}
	f.armed, f.to = false, f.then
	return !f.swallow, false
}

func (f *failover) handle(t *testing.T) func(net.Conn) {
	t.Helper()
	return func(client net.Conn) {
		server, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.target())
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := client.Read(buf)
			if err != nil {
				return
			}
			waits := bytes.Contains(bytes.ToLower(buf[:n]), []byte("\r\nwait\r\n"))
			if _, err := server.Write(buf[:n]); err != nil {
				return
			}
			var answer []byte
			// What comes before a WAIT may be answered while the WAIT is not.
			for answer == nil || waits && !bytes.HasSuffix(answer, []byte(":1\r\n")) {
				if n, err = server.Read(buf); err != nil {
					return
				}
				answer = append(answer, buf[:n]...)
			}
			deliver, goOn := true, true
			if waits {
				deliver, goOn = f.answered()
			}
			if deliver {
				if _, err := client.Write(answer); err != nil {
					return
				}
			}
			if !goOn {
				return
			}
		}
	}
}

// Who confirms a record has it: all that is said about it is said to one primary, though the client follows a fail-over
// in the midst.
func TestOnePrimaryConfirmsARecord(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		swallow   bool
		pipelines int
		fresh     bool // whether the new primary must have the record
	}{
		{"after the answer", false, 1, false},
		{"before the answer", true, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			old, fresh := testserver.StartRedis(t, testserver.RedisOptions{}), testserver.StartRedis(t, testserver.RedisOptions{})
			testserver.StartRedisReplica(t, old)
			testserver.StartRedisReplica(t, fresh)
			f := &failover{to: old.Addr}
			cfg := at(old)
			cfg.Addrs, cfg.WaitReplicas = []string{serve(t, f.handle(t))}, 1
			s := open(t, cfg)
			id := newID(t)
			mustWin(t, s, id, "ours")
			f.arm(fresh.Addr, c.swallow)
			mustWin(t, s, id, "ours") // found on the old primary
			if n := f.pipelines(); n != c.pipelines {
				t.Errorf("the replicas were asked %d times, want %d", n, c.pipelines)
			}
			keys := fresh.Do("KEYS", "sheaf:*")
			if has := strings.Contains(keys, id.String()); has != c.fresh || strings.Contains(keys, "fence") != c.fresh {
				t.Errorf("the new primary has %q; want the record and what is written behind it there: %v", keys, c.fresh)
			}
		})
	}
}
