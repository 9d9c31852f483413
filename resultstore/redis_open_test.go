package resultstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/resultstore"
)

const secret = "hunter2-s3cret"

// refuseOpen opens and expects an error that says what it should, and no password.
func refuseOpen(t *testing.T, cfg resultstore.Config, unavailable bool, says ...string) {
	t.Helper()
	s, err := resultstore.OpenRedis(t.Context(), cfg)
	if err == nil {
		_ = s.Close()
		t.Fatal("OpenRedis succeeded")
	}
	if errors.Is(err, resultstore.ErrUnavailable) != unavailable {
		t.Errorf("OpenRedis: %v; is ErrUnavailable: %v, want %v", err, !unavailable, unavailable)
	}
	for _, text := range says {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("OpenRedis: %v; want it to say %q", err, text)
		}
	}
	if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error has the password in it: %v", err)
	}
}

func TestOpenUnreachable(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	server.Kill()
	cfg := at(server)
	cfg.URL = "redis://worker:" + secret + "@" + server.Addr
	refuseOpen(t, cfg, true, server.Addr, "is redis-server running there")

	cfg.Addrs, cfg.MasterName = []string{server.Addr}, "nobody"
	refuseOpen(t, cfg, true, server.Addr)
	cfg.Addrs, cfg.MasterName, cfg.Cluster = []string{server.Addr}, "", true
	refuseOpen(t, cfg, true, server.Addr)
}

func TestOpenSilentServer(t *testing.T) {
	cfg := resultstore.DefaultConfig()
	cfg.URL = "redis://" + serve(t, func(c net.Conn) { _, _ = bufio.NewReader(c).WriteTo(discard{}) })
	cfg.ConnectTimeout = 100 * time.Millisecond
	refuseOpen(t, cfg, true)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// fakeRedis answers each command by its name in lower case, for answers that no Redis of today gives.
func fakeRedis(t *testing.T, answers map[string]string) (addr string) {
	t.Helper()
	return serve(t, func(c net.Conn) {
		lines := bufio.NewScanner(c)
		for lines.Scan() {
			var words []string // of one command: *3, then each word after a line with its length
			n, _ := strconv.Atoi(strings.TrimPrefix(lines.Text(), "*"))
			for len(words) < n && lines.Scan() && lines.Scan() {
				words = append(words, lines.Text())
			}
			if len(words) == 0 {
				return
			}
			answer, ok := answers[strings.ToLower(words[0])]
			if !ok {
				answer = "+OK"
			}
			_, _ = fmt.Fprint(c, answer+"\r\n")
		}
	})
}

// A Redis before 7.0 does not take NX with GET; one before 6.0 repeats what it does not know, passwords too.
func TestOpenOldRedis(t *testing.T) {
	unknown := "-ERR unknown command, with args beginning with: `worker`, `" + secret + "`"
	cfg := resultstore.DefaultConfig()
	cfg.URL = "redis://worker:" + secret + "@" + fakeRedis(t, map[string]string{
		"hello": unknown, "set": "-ERR syntax error", "info": "$22\r\nredis_version:6.2.14\r\n",
	})
	refuseOpen(t, cfg, false, "Redis 7.0 or newer is needed", "6.2.14")
	cfg.URL = "redis://worker:" + secret + "@" + fakeRedis(t, map[string]string{"hello": unknown, "auth": unknown})
	refuseOpen(t, cfg, false, "unknown command", "[password]")
}

func TestOpenReadOnly(t *testing.T) {
	primary := testserver.StartRedis(t, testserver.RedisOptions{})
	refuseOpen(t, at(testserver.StartRedisReplica(t, primary)), true, "read-only replica", "primary")
}

func TestOpenFullRedisForReading(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	id := newID(t)
	mustWin(t, open(t, at(server)), id, "before")
	server.Do("CONFIG", "SET", "maxmemory", "1")
	var logs logBuffer
	s := open(t, at(server), resultstore.WithLogger(logs.logger()))
	mustHave(t, s, id, "before")
	wantUnavailable(t, "Ping", s.Ping(t.Context()), "out of memory")
	if !strings.Contains(logs.String(), "out of memory") {
		t.Errorf("the log does not say it:\n%s", logs.String())
	}
}

func TestOpenWrongTopology(t *testing.T) {
	t.Parallel()
	single := at(testserver.StartRedis(t, testserver.RedisOptions{}))
	single.Cluster = true
	refuseOpen(t, single, false, "not a Cluster")

	told := 0
	for _, n := range testserver.RedisCluster(t) {
		s, err := resultstore.OpenRedis(t.Context(), at(n))
		if err == nil {
			_ = s.Close()
		} else if strings.Contains(err.Error(), "switch the Cluster setting on") {
			told++
		}
	}
	if told != 3 {
		t.Errorf("%d of 3 nodes of a Cluster were refused as one server, want 3", told)
	}
}

func TestPasswords(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{Password: secret})
	// All that a store needs, and nothing besides: neither INFO nor CONFIG nor CLIENT.
	server.Do("ACL", "SETUSER", "worker", "on", ">"+secret, "~sheaf:*", "resetchannels", "-@all", "+set", "+get", "+mget")
	with := func(user, password string) resultstore.Config {
		cfg := at(server)
		cfg.URL = (&url.URL{Scheme: "redis", User: url.UserPassword(user, password), Host: server.Addr}).String()
		return cfg
	}
	for _, c := range []struct {
		name string
		cfg  resultstore.Config
	}{{"user of the URL", with("worker", secret)}, {"password of the URL", with("", secret)}} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t, c.cfg)
			id := newID(t)
			mustWin(t, s, id, "x")
			mustHave(t, s, id, "x")
			if err := s.Ping(t.Context()); err != nil {
				t.Error(err)
			}
			if got, err := s.Get(t.Context(), id, id); err != nil || len(got) != 2 {
				t.Errorf("Get of two: %q, %v", got, err)
			}
		})
	}
	t.Run("settings before the URL", func(t *testing.T) {
		cfg := with("nobody", "nothing")
		cfg.Username, cfg.Password = "worker", secret
		mustWin(t, open(t, cfg), newID(t), "x")
	})
	t.Run("wrong password", func(t *testing.T) {
		refuseOpen(t, with("worker", secret+"x"), false, "user name and password")
	})
	t.Run("no password", func(t *testing.T) {
		refuseOpen(t, at(server), false, "user name and password")
	})
	t.Run("other keys", func(t *testing.T) {
		cfg := with("worker", secret)
		cfg.Prefix = "other:"
		refuseOpen(t, cfg, false, "what the user may do")
	})
}

func TestTLS(t *testing.T) {
	certs, others := testserver.NewCertificates(t), testserver.NewCertificates(t)
	server := testserver.StartRedis(t, testserver.RedisOptions{Certs: certs, ClientCerts: true})
	cfg := at(server)
	cfg.URL = "rediss://" + server.Addr
	cfg.TLS = resultstore.TLSConfig{CAFile: certs.CAFile, CertFile: certs.CertFile, KeyFile: certs.KeyFile}

	t.Run("both sides", func(t *testing.T) { mustWin(t, open(t, cfg), newID(t), "x") })
	t.Run("files switch it on", func(t *testing.T) {
		cfg := cfg
		cfg.URL = "redis://" + server.Addr
		mustWin(t, open(t, cfg), newID(t), "x")
	})
	t.Run("another authority", func(t *testing.T) {
		cfg := cfg
		cfg.TLS.CAFile = others.CAFile
		refuseOpen(t, cfg, true, "certificate", "does it use TLS as the settings say?")
	})
	t.Run("another name", func(t *testing.T) {
		cfg := cfg
		cfg.TLS.ServerName = "redis.example"
		refuseOpen(t, cfg, true, "redis.example")
	})
	t.Run("no client certificate", func(t *testing.T) {
		cfg := cfg
		cfg.TLS.CertFile, cfg.TLS.KeyFile = "", ""
		refuseOpen(t, cfg, true, "TLS")
	})
	t.Run("without TLS", func(t *testing.T) {
		refuseOpen(t, at(server), true, "TLS")
	})
	t.Run("a file that is no certificate", func(t *testing.T) {
		cfg := cfg
		cfg.TLS.CAFile = certs.KeyFile
		refuseOpen(t, cfg, false, "no PEM certificate")
	})
}

func TestWarnings(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"evicts and forgets", []string{"--maxmemory-policy", "allkeys-lru"}, []string{"noeviction", "appendonly"}},
		{"forgets", []string{"--maxmemory-policy", "noeviction"}, []string{"appendonly"}},
		{"evicts", []string{"--maxmemory-policy", "volatile-ttl", "--appendonly", "yes"}, []string{"noeviction"}},
		{"good", []string{"--maxmemory-policy", "noeviction", "--appendonly", "yes"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var logs logBuffer
			open(t, at(testserver.StartRedis(t, testserver.RedisOptions{Args: c.args})), resultstore.WithLogger(logs.logger()))
			if got := strings.Count(logs.String(), "level=WARN"); got != len(c.want) {
				t.Errorf("%d warnings, want %d:\n%s", got, len(c.want), logs.String())
			}
			for _, w := range c.want {
				if !strings.Contains(logs.String(), w) {
					t.Errorf("no warning with %q:\n%s", w, logs.String())
				}
			}
		})
	}
}

func TestDatabaseAndPrefix(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	cfg := at(server)
	cfg.URL += "/3"
	cfg.Prefix = "mine:"
	cfg.DefaultTTL = time.Hour
	id := newID(t)
	s := open(t, cfg)
	mustWin(t, s, id, "x")
	if got := server.Do("EVAL", "redis.call('SELECT', 3) return redis.call('TTL', KEYS[1])", "1", "mine:"+id.String()); got != "3600" && got != "3599" {
		t.Errorf("time to live in database 3 under mine:%v: %s seconds, want 3600", id, got)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := resultstore.OpenRedis(canceled, cfg); !errors.Is(err, context.Canceled) || errors.Is(err, resultstore.ErrUnavailable) {
		t.Errorf("OpenRedis with a canceled context: %v", err)
	}
}
