package resultstore_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

func TestRedisKilledAndBack(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
	s := open(t, at(server))
	before, during := newID(t), newID(t)
	mustWin(t, s, before, "before")

	server.Kill()
	_, err := put(t.Context(), t, s, during, "during")
	wantUnavailable(t, "Finish", err, "out of reach")
	_, err = s.Get(t.Context(), before)
	wantUnavailable(t, "Get", err, "out of reach")
	wantUnavailable(t, "Ping", s.Ping(t.Context()), "out of reach")

	server.Start()
	heals(t, s, during, "during")
	mustLose(t, s, before, "after", "before")
	mustHave(t, s, before, "before")
}

// A server that is away in one of these ways answers, but takes no record.
func TestRedisRefusesWrites(t *testing.T) {
	for _, c := range []struct {
		name          string
		breaks, mends []string
		says          string
	}{
		{
			name: "read-only", breaks: []string{"REPLICAOF", "127.0.0.1", "1"}, mends: []string{"REPLICAOF", "NO", "ONE"},
			says: "read-only replica",
		},
		{
			name: "out of memory", breaks: []string{"CONFIG", "SET", "maxmemory", "1"}, mends: []string{"CONFIG", "SET", "maxmemory", "0"},
			says: "out of memory",
		},
		{
			name: "too few replicas", breaks: []string{"CONFIG", "SET", "min-replicas-to-write", "1"},
			mends: []string{"CONFIG", "SET", "min-replicas-to-write", "0"}, says: "fewer replicas",
		},
		{
			name: "permission lost", breaks: []string{"ACL", "SETUSER", "default", "-@all", "+get", "+acl"},
			mends: []string{"ACL", "SETUSER", "default", "+@all"}, says: "may not do this",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testserver.StartRedis(t, testserver.RedisOptions{Args: []string{"--maxmemory-policy", "noeviction"}})
			s := open(t, at(server))
			before, ids := newID(t), []job.ID{newID(t), newID(t)}
			mustWin(t, s, before, "before")

			server.Do(c.breaks...)
			outcomes, err := s.Finish(t.Context(), []resultstore.Entry{
				{ID: ids[0], Record: []byte("0")}, {ID: before, Record: []byte("flip")}, {ID: ids[1], Record: []byte("1")},
			})
			wantUnavailable(t, "Finish", err, c.says)
			for i, o := range outcomes {
				wantUnavailable(t, "outcome", o.Err, c.says)
				if o.Won || o.Existing != nil {
					t.Errorf("outcome %d says more than its error: %+v", i, o)
				}
			}
			wantUnavailable(t, "Ping", s.Ping(t.Context()), c.says)
			mustHave(t, s, before, "before")

			server.Do(c.mends...)
			heals(t, s, ids[0], "0")
			mustLose(t, s, before, "flip", "before")
		})
	}
}

func TestRedisReplicaWithoutPrimary(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{Args: []string{"--replica-serve-stale-data", "no"}})
	s := open(t, at(server))
	id := newID(t)
	mustWin(t, s, id, "before")
	server.Do("REPLICAOF", "127.0.0.1", "1")
	_, err := s.Get(t.Context(), id)
	wantUnavailable(t, "Get", err, "lost its primary")
	_, err = put(t.Context(), t, s, id, "flip")
	wantUnavailable(t, "Finish", err, "")
	server.Do("REPLICAOF", "NO", "ONE")
	eventually(t, "the record is read again", func() bool { _, err := s.Get(t.Context(), id); return err == nil })
	mustLose(t, s, id, "flip", "before")
}

func TestRedisLoading(t *testing.T) {
	t.Parallel()
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	cfg := at(server)
	cfg.MaxRetries = 0
	s := open(t, cfg)
	entries := make([]resultstore.Entry, 6000)
	for i := range entries {
		entries[i] = resultstore.Entry{ID: newID(t), Record: []byte(strings.Repeat("x", 100))}
	}
	if _, err := s.Finish(t.Context(), entries); err != nil {
		t.Fatal(err)
	}
	server.Do("SAVE")
	server.Kill()
	server.StartLoading()
	_, err := put(t.Context(), t, s, newID(t), "x")
	wantUnavailable(t, "Finish", err, "loading")
	_, err = s.Get(t.Context(), entries[0].ID)
	wantUnavailable(t, "Get", err, "loading")
	wantUnavailable(t, "Ping", s.Ping(t.Context()), "loading")
	_, err = resultstore.OpenRedis(t.Context(), cfg)
	wantUnavailable(t, "OpenRedis", err, "loading")

	server.Do("CONFIG", "SET", "key-load-delay", "0")
	heals(t, s, newID(t), "after")
	mustHave(t, s, entries[0].ID, string(entries[0].Record))
}

// A server that stands still has the write in its socket, and makes it when it goes on: the next try finds it and
// takes it for its own.
func TestRedisStandsStill(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	cfg := at(server)
	cfg.ReadTimeout, cfg.MaxRetries = 200*time.Millisecond, 1
	s := open(t, cfg)
	byTimeout, byContext := newID(t), newID(t)

	server.Pause()
	t.Cleanup(server.Resume)
	_, err := put(t.Context(), t, s, byTimeout, "mine")
	wantUnavailable(t, "Finish over its timeout", err, "did not answer in time")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = put(ctx, t, s, byContext, "mine")
	wantUnavailable(t, "Finish over its context's deadline", err, "in the time that the caller gave")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v; want it to wrap context.DeadlineExceeded", err)
	}
	server.Resume()

	heals(t, s, byTimeout, "mine")
	heals(t, s, byContext, "mine")
	mustLose(t, s, byTimeout, "other", "mine")
}

// go-redis sends a pipeline again when the connection breaks before the answer.
func TestRedisUnansweredWriteIsOurs(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	var proxy cutter
	cfg := at(server)
	cfg.URL = "redis://" + serve(t, proxy.handle(server.Addr))
	s := open(t, cfg)
	free, taken := newID(t), newID(t)
	mustWin(t, s, taken, "theirs")

	proxy.arm(2)
	outcomes, err := s.Finish(t.Context(), []resultstore.Entry{{ID: free, Record: []byte("ours")}, {ID: taken, Record: []byte("ours")}})
	if err != nil {
		t.Fatal(err)
	}
	if proxy.cuts() != 2 {
		t.Fatalf("%d answers were swallowed, want 2", proxy.cuts())
	}
	if !outcomes[0].Won {
		t.Errorf("a record that an earlier try wrote: %+v; want it won", outcomes[0])
	}
	if outcomes[1].Won || string(outcomes[1].Existing) != "theirs" {
		t.Errorf("a record that another writer wrote: %+v; want it lost", outcomes[1])
	}

	// Without retries the caller hears of it, and tries itself.
	cfg.MaxRetries = 0
	s = open(t, cfg)
	again := newID(t)
	proxy.arm(1)
	_, err = put(t.Context(), t, s, again, "ours")
	wantUnavailable(t, "Finish", err, "out of reach")
	mustHave(t, s, again, "ours")
	mustWin(t, s, again, "ours")
}

func TestRedisForeignValues(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	s := open(t, at(server))
	hash, empty, good := newID(t), newID(t), newID(t)
	server.Do("HSET", "sheaf:"+hash.String(), "a", "1")
	server.Do("SET", "sheaf:"+empty.String(), "")
	outcomes, err := s.Finish(t.Context(), []resultstore.Entry{
		{ID: hash, Record: []byte("x")}, {ID: empty, Record: []byte("x")}, {ID: good, Record: []byte("x")},
	})
	if err == nil || errors.Is(err, resultstore.ErrUnavailable) {
		t.Errorf("Finish: %v; want an error that another try does not cure", err)
	}
	for _, i := range []int{0, 1} {
		if outcomes[i].Err == nil || outcomes[i].Won || outcomes[i].Existing != nil {
			t.Errorf("outcome %d: %+v; want only an error", i, outcomes[i])
		}
	}
	if !outcomes[2].Won {
		t.Errorf("the neighbour: %+v; want it won", outcomes[2])
	}
}

func TestClusterNodeDown(t *testing.T) {
	t.Parallel()
	nodes := testserver.RedisCluster(t)
	cfg := resultstore.DefaultConfig()
	cfg.URL, cfg.Cluster, cfg.MaxRetries = "redis://"+nodes[0].Addr, true, 0
	s := open(t, cfg)
	entries := make([]resultstore.Entry, 60)
	for i := range entries {
		entries[i] = resultstore.Entry{ID: newID(t), Record: []byte("x")}
	}
	nodes[2].Kill()
	outcomes, err := s.Finish(t.Context(), entries)
	wantUnavailable(t, "Finish", err, "")
	var won, failed int
	for _, o := range outcomes {
		switch {
		case o.Won:
			won++
		case o.Err != nil:
			wantUnavailable(t, "outcome", o.Err, "")
			failed++
		}
	}
	if won == 0 || failed == 0 || won+failed != len(entries) {
		t.Errorf("%d won and %d failed of %d; want some of each and nothing else", won, failed, len(entries))
	}
	wantUnavailable(t, "Ping", s.Ping(t.Context()), "")

	nodes[2].Start()
	eventually(t, "all are written", func() bool {
		outcomes, err := s.Finish(t.Context(), entries)
		for _, o := range outcomes {
			if o.Existing != nil {
				t.Fatalf("a record was lost to itself: %+v", o)
			}
		}
		return err == nil
	})
}

func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	group := testserver.RedisSentinel(t)
	cfg := resultstore.DefaultConfig()
	cfg.Addrs, cfg.MasterName = []string{group.Sentinel.Addr}, group.Name
	s := open(t, cfg)
	before, after := newID(t), newID(t)
	mustWin(t, s, before, "before")
	group.Replica.Await("before", "GET", "sheaf:"+before.String())

	group.Primary.Kill()
	// On a machine that is busy enough this write may outlast the failover, and then it is made.
	if _, err := put(t.Context(), t, s, after, "after"); err != nil {
		wantUnavailable(t, "Finish", err, "")
	}
	heals(t, s, after, "after")
	mustLose(t, s, before, "flip", "before")
	if got := group.Replica.Do("GET", "sheaf:"+after.String()); got != "after" {
		t.Errorf("the new primary has %q, want %q", got, "after")
	}
}
