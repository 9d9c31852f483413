package resultstore_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/resultstore/storetest"
)

// replicated is a Redis with one replica for each primary, and the settings that wait for it.
type replicated struct {
	cfg                 resultstore.Config
	primaries, replicas []*testserver.RedisServer
}

func (r replicated) pause() {
	for _, s := range r.replicas {
		s.Pause()
	}
}

func (r replicated) resume() {
	for _, s := range r.replicas {
		s.Resume()
	}
}

// topologies are all that a store may stand on.
var topologies = []struct {
	name  string
	start func(*testing.T) replicated
}{
	{"one server", func(t *testing.T) replicated {
		t.Helper()
		primary := testserver.StartRedis(t, testserver.RedisOptions{})
		replica := testserver.StartRedisReplica(t, primary)
		return replicated{at(primary), []*testserver.RedisServer{primary}, []*testserver.RedisServer{replica}}
	}},
	{"Sentinel", func(t *testing.T) replicated {
		t.Helper()
		group := testserver.RedisSentinel(t)
		cfg := resultstore.DefaultConfig()
		cfg.Addrs, cfg.MasterName = []string{group.Sentinel.Addr}, group.Name
		return replicated{cfg, []*testserver.RedisServer{group.Primary}, []*testserver.RedisServer{group.Replica}}
	}},
	{"Cluster", func(t *testing.T) replicated {
		t.Helper()
		shards := testserver.RedisClusterWithReplicas(t)
		cfg := resultstore.DefaultConfig()
		for _, n := range shards.Primaries {
			cfg.Addrs = append(cfg.Addrs, n.Addr)
		}
		return replicated{cfg, shards.Primaries, shards.Replicas}
	}},
}

func TestWaitForReplicas(t *testing.T) {
	t.Parallel()
	for _, on := range topologies {
		t.Run(on.name, func(t *testing.T) {
			r := on.start(t)
			r.cfg.WaitReplicas = 1
			r.cfg.WaitTimeout = 2 * time.Second
			storetest.Run(t, func(t *testing.T) resultstore.Store {
				t.Helper()
				return open(t, r.cfg)
			})
		})
	}
}

// What the replicas do not have counts for nothing: neither a record that was just written, nor our own or another's
// that stood there.
func TestReplicasStandStill(t *testing.T) {
	t.Parallel()
	for _, on := range topologies {
		t.Run(on.name, func(t *testing.T) {
			r := on.start(t)
			loose := open(t, r.cfg)
			r.cfg.WaitReplicas, r.cfg.WaitTimeout = 1, 200*time.Millisecond
			registry := prometheus.NewRegistry()
			s := open(t, r.cfg, resultstore.WithRegisterer(registry))
			if err := s.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			before, theirs := newID(t), newID(t)
			mustWin(t, s, before, "before")

			r.pause()
			t.Cleanup(r.resume)
			mustWin(t, loose, theirs, "theirs")
			ours := make([]resultstore.Entry, 30)
			for i := range ours {
				ours[i] = resultstore.Entry{ID: newID(t), Record: []byte("ours " + strconv.Itoa(i))}
			}
			entries := append([]resultstore.Entry{{ID: theirs, Record: []byte("late")}}, ours...)
			for try := range 2 {
				outcomes, err := s.Finish(t.Context(), entries)
				wantUnavailable(t, "Finish", err, "0 of the 1 replicas that are waited for confirmed within 200ms")
				for i, o := range outcomes {
					wantUnavailable(t, "outcome", o.Err, "replicas")
					if o.Won || o.Existing != nil {
						t.Errorf("try %d, outcome %d says more than its error: %+v", try, i, o)
					}
				}
			}
			wantUnavailable(t, "Ping", s.Ping(t.Context()), "0 of the 1 replicas")
			if n := values(t, registry)["sheaf_resultstore_errors_total replicas"]; n != 2*float64(len(entries)) {
				t.Errorf("%v errors of kind replicas, want %d", n, 2*len(entries))
			}

			r.resume()
			heals(t, s, ours[0].ID, "ours 0")
			outcomes, err := s.Finish(t.Context(), entries)
			if err != nil {
				t.Fatal(err)
			}
			if o := outcomes[0]; o.Won || string(o.Existing) != "theirs" {
				t.Errorf("a record that another writer wrote: %+v; want it lost", o)
			}
			for i, o := range outcomes[1:] {
				if !o.Won {
					t.Errorf("record %d of an earlier try: %+v; want it won", i, o)
				}
			}
			mustLose(t, s, before, "flip", "before")
		})
	}
}

// WAIT of Redis 7.2 and later waits for what its own connection wrote. A try that finds the record of an earlier one
// has written nothing, so the store writes something before it asks.
func TestWhatIsFoundIsConfirmedBehindAWrite(t *testing.T) {
	t.Parallel()
	for _, on := range topologies {
		t.Run(on.name, func(t *testing.T) {
			r := on.start(t)
			r.cfg.WaitReplicas = 1
			s := open(t, r.cfg)
			id := newID(t)
			mustWin(t, s, id, "x")
			for _, p := range r.primaries {
				for key := range strings.FieldsSeq(p.Do("KEYS", "sheaf:fence*")) {
					p.Do("DEL", key)
				}
			}
			mustWin(t, s, id, "x")
			found := ""
			for _, p := range r.primaries {
				found += p.Do("KEYS", "sheaf:fence*")
			}
			if !strings.Contains(found, "fence") {
				t.Error("nothing was written before the replicas were asked about a record that stood there")
			}
		})
	}
}

// Of a Cluster only the records of the shard whose replica is away wait for it.
func TestOneShardsReplicaStandsStill(t *testing.T) {
	t.Parallel()
	r := topologies[2].start(t)
	r.cfg.WaitReplicas, r.cfg.WaitTimeout = 1, 200*time.Millisecond
	s := open(t, r.cfg)
	r.replicas[1].Pause()
	t.Cleanup(r.replicas[1].Resume)
	entries := make([]resultstore.Entry, 60)
	for i := range entries {
		entries[i] = resultstore.Entry{ID: newID(t), Record: []byte("x")}
	}
	outcomes, err := s.Finish(t.Context(), entries)
	wantUnavailable(t, "Finish", err, "0 of the 1 replicas")
	for i, o := range outcomes {
		there := strings.Contains(r.primaries[1].Do("KEYS", "sheaf:"+entries[i].ID.String()), "sheaf")
		if o.Won == there || (o.Err != nil) != there {
			t.Errorf("record %d, on the shard that lacks its replica: %v: %+v", i, there, o)
		}
	}
}

func TestDemotedWhileItWaits(t *testing.T) {
	t.Parallel()
	r := topologies[0].start(t)
	r.cfg.WaitReplicas, r.cfg.WaitTimeout, r.cfg.ReadTimeout, r.cfg.MaxRetries = 1, time.Minute, 2*time.Minute, 0
	s := open(t, r.cfg)
	r.pause()
	t.Cleanup(r.resume)
	id := newID(t)
	done := make(chan error, 1)
	go func() {
		_, err := s.Finish(t.Context(), []resultstore.Entry{{ID: id, Record: []byte("x")}})
		done <- err
	}()
	r.primaries[0].Await("blocked_clients:1", "INFO", "clients")
	r.primaries[0].Do("REPLICAOF", "127.0.0.1", "1")
	wantUnavailable(t, "Finish", <-done, "has become a replica")
	r.resume()
	r.primaries[0].Do("REPLICAOF", "NO", "ONE")
	r.replicas[0].Await("master_link_status:up", "INFO", "replication")
	heals(t, s, id, "x")
}

func TestOpenWithTooFewReplicas(t *testing.T) {
	t.Parallel()
	for _, on := range topologies {
		t.Run(on.name, func(t *testing.T) {
			r := on.start(t)
			r.cfg.WaitReplicas, r.cfg.WaitTimeout = 2, 100*time.Millisecond
			refuseOpen(t, r.cfg, true, "1 of the 2 replicas", "wait for fewer")
		})
	}
}

func TestWaitIsPermitted(t *testing.T) {
	t.Parallel()
	r := topologies[0].start(t)
	r.primaries[0].Do("ACL", "SETUSER", "worker", "on", ">"+secret, "~sheaf:*", "resetchannels", "-@all", "+set", "+get", "+mget")
	r.cfg.Username, r.cfg.Password, r.cfg.WaitReplicas = "worker", secret, 1
	refuseOpen(t, r.cfg, true, "+wait")
	r.primaries[0].Do("ACL", "SETUSER", "worker", "+wait")
	s := open(t, r.cfg)
	id := newID(t)
	mustWin(t, s, id, "x")
	mustWin(t, s, id, "x")
}

// A record that was confirmed is there after its primary is gone, whoever takes over.
func TestReplicatedFailover(t *testing.T) {
	t.Parallel()
	for _, on := range topologies[1:] {
		t.Run(on.name, func(t *testing.T) {
			r := on.start(t)
			r.cfg.WaitReplicas, r.cfg.WaitTimeout = 1, 500*time.Millisecond
			s := open(t, r.cfg)
			entries := make([]resultstore.Entry, 90)
			ids := make([]job.ID, len(entries))
			for i := range entries {
				ids[i] = newID(t)
				entries[i] = resultstore.Entry{ID: ids[i], Record: []byte(strconv.Itoa(i))}
			}
			if _, err := s.Finish(t.Context(), entries[:60]); err != nil {
				t.Fatal(err)
			}
			r.primaries[0].Kill()
			_, err := s.Finish(t.Context(), entries)
			wantUnavailable(t, "Finish", err, "")
			r.replicas[0].Await("role:master", "INFO", "replication")
			// As the Sentinel would tell it after eight seconds; in a Cluster it finds out by itself.
			if on.name == "Sentinel" {
				r.primaries[0].Start("--replicaof", r.replicas[0].Host()+" "+r.replicas[0].Port())
			} else {
				r.primaries[0].Start()
			}
			eventually(t, "all are written", func() bool {
				outcomes, err := s.Finish(t.Context(), entries)
				for i, o := range outcomes {
					if o.Err == nil && !o.Won {
						t.Fatalf("record %d was lost to itself: %+v", i, o)
					}
				}
				return err == nil
			})
			records, err := s.Get(t.Context(), ids...)
			if err != nil {
				t.Fatal(err)
			}
			for i, record := range records {
				if string(record) != strconv.Itoa(i) {
					t.Errorf("record %d is %q", i, record)
				}
			}
			eventually(t, "Ping is content", func() bool { return s.Ping(t.Context()) == nil })
		})
	}
}

// A caller with less time than the replicas get has its own.
func TestCallersDeadlineBeforeTheReplicas(t *testing.T) {
	t.Parallel()
	r := topologies[0].start(t)
	r.cfg.WaitReplicas, r.cfg.WaitTimeout, r.cfg.ReadTimeout = 1, time.Minute, 2*time.Minute
	s := open(t, r.cfg)
	r.pause()
	t.Cleanup(r.resume)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := put(ctx, t, s, newID(t), "x")
	wantUnavailable(t, "Finish", err, "in the time that the caller gave")
}
