package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/resultstore"
)

// startOn starts an API process and two workers on servers that stand, and returns the API's URL.
func startOn(t *testing.T, settings ...string) (api string) {
	t.Helper()
	for range 2 {
		worker := start(t, append([]string{"worker", "--models", repoPath("examples", "models"), "--retry-delay-max", "500ms"}, settings...)...)
		worker.find(`worker is up.* ops=(\S+)`)
	}
	api = start(t, append([]string{"serve", "--addr", "127.0.0.1:0"}, settings...)...).find(`HTTP API is up.* url=(\S+)`)
	eventually(t, func() error {
		if code, body := get(t, api+"/v1/models/digits"); code != http.StatusOK {
			return fmt.Errorf("digits is not announced: %d %s", code, body)
		}
		return nil
	})
	return api
}

// submitThrough submits n digits jobs and returns their IDs, zero where one was not accepted yet. Before the i-th is
// made it calls at, with the IDs that are accepted by then.
func submitThrough(t *testing.T, natsURL string, n int, at func(i int, accepted []job.ID)) []job.ID {
	t.Helper()
	cfg := producer.DefaultConfig()
	cfg.Queue.URL = natsURL
	p, err := producer.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience) // with fewer replicas it would wait for ever
	defer cancel()
	rows := heldout(t, "digits")
	var mu sync.Mutex
	ids := make([]job.ID, n)
	accepted := make([]job.ID, 0, n)
	err = p.SubmitAll(ctx, func(yield func(producer.Request) bool) {
		for i := range n {
			mu.Lock()
			known := accepted
			mu.Unlock()
			at(i, known)
			if !yield(producer.Request{Model: "digits", Inputs: []job.Tensor{fp32("x", rows[i%len(rows)].Input)}}) {
				return
			}
		}
	}, func(i int, sub producer.Submission, err error) {
		if err != nil {
			t.Errorf("job %d was refused: %v", i, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		ids[i] = sub.Ticket.ID
		accepted = append(accepted, sub.Ticket.ID)
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

// rightIn waits until every job has its record, and compares it with a direct run.
func rightIn(t *testing.T, store resultstore.Store, ids []job.ID) {
	t.Helper()
	rows := heldout(t, "digits")
	for from := 0; from < len(ids); from += 500 {
		part := ids[from:min(from+500, len(ids))]
		var records [][]byte
		eventually(t, func() (err error) {
			if records, err = store.Get(t.Context(), part...); err != nil {
				return err
			}
			for i, record := range records {
				if record == nil {
					return fmt.Errorf("job %d of %d has no record", from+i, len(ids))
				}
			}
			return nil
		})
		for i, record := range records {
			r, err := job.DecodeRecord(part[i], record)
			if err != nil || r.State != job.Succeeded {
				t.Fatalf("job %d: %v, %v", from+i, r, err)
			}
			if err := sameProbabilities(floats(r.Outputs[0].Data), rows[(from+i)%len(rows)].Probabilities); err != nil {
				t.Fatalf("job %d: %v", from+i, err)
			}
		}
	}
}

// A NATS cluster of three keeps every stream three times. The server that leads the interactive one is killed while
// jobs flow, comes back, and later the lead is moved by an operator.
func TestJobsOutliveTheLeaderOfTheirStream(t *testing.T) {
	t.Parallel()
	servers := testserver.StartNATSCluster(t, 3)
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL()
	}
	nats := strings.Join(urls, ",")
	testserver.AwaitJetStream(t, nats)
	redis := "redis://" + testserver.Redis(t)
	api := startOn(t, "--nats-url", nats, "--replicas", "3", "--redis-url", redis)

	flowing := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 2 {
		clients.Go(func() { submitOverHTTP(t, api, "client-"+strconv.Itoa(c), flowing) })
	}
	const n = 6000
	var killed *testserver.NATSServer
	ids := submitThrough(t, nats, n, func(i int, _ []job.ID) {
		switch i {
		case n / 4:
			leader, err := strconv.Atoi(strings.TrimPrefix(testserver.StreamLeader(t, nats, "interactive"), "n"))
			if err != nil {
				t.Error(err)
				return
			}
			killed = servers[leader]
			killed.Kill()
		case n / 2:
			killed.Start()
		case 3 * n / 4:
			testserver.StepDown(t, nats, "interactive")
		}
	})
	close(flowing)
	clients.Wait()

	cfg := resultstore.DefaultConfig()
	cfg.URL = redis
	rightIn(t, openStore(t, cfg), ids)
}

// submitOverHTTP submits jobs one after another until it is told to stop, each until it is accepted, and then asks for
// all of their results. A submit that is repeated under its key is the same job.
func submitOverHTTP(t *testing.T, api, name string, flowing <-chan struct{}) {
	t.Helper()
	rows := heldout(t, "digits")
	var ids []string
	for stopped := false; !stopped; {
		select {
		case <-flowing:
			stopped = true // the last one is submitted when all is well again
		default:
		}
		body := []byte(fmt.Sprintf(`{"input": %s}`, strings.Join(strings.Fields(fmt.Sprint(rows[len(ids)%len(rows)].Input)), ",")))
		header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {name + "-" + strconv.Itoa(len(ids))}}
		eventually(t, func() error {
			code, answer := request(t, http.MethodPost, api+"/v1/models/digits/jobs", body, header)
			if code != http.StatusAccepted && code != http.StatusOK {
				if code != http.StatusServiceUnavailable && code != http.StatusTooManyRequests {
					t.Errorf("job %d: submit answered %d: %s", len(ids), code, answer)
				}
				return fmt.Errorf("job %d of %s is not accepted: %d %s", len(ids), name, code, answer)
			}
			ids = append(ids, decodeJob(t, answer).ID)
			return nil
		})
	}
	for i, id := range ids {
		eventually(t, func() error {
			code, answer := get(t, api+"/v1/jobs/"+id+"?wait=5s")
			if code == http.StatusNotFound {
				t.Errorf("job %d of %s was accepted and is unknown: %s", i, name, answer)
			}
			j := decodeJob(t, answer)
			if code != http.StatusOK || j.Status != "succeeded" {
				return fmt.Errorf("job %d of %s: %d %s", i, name, code, answer)
			}
			return sameProbabilities(j.Outputs[0].Data, rows[i%len(rows)].Probabilities)
		})
	}
}

func openStore(t *testing.T, cfg resultstore.Config) *resultstore.Redis {
	t.Helper()
	store, err := resultstore.OpenRedis(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return store
}

// onDisk are the settings of a Redis under SHEAF_DURABILITY=strict.
var onDisk = []string{"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"}

func TestResultsOutliveTheirPrimaryUnderSentinel(t *testing.T) {
	t.Parallel()
	group := testserver.RedisSentinel(t, onDisk...)
	cfg := resultstore.DefaultConfig()
	cfg.Addrs, cfg.MasterName = []string{group.Sentinel.Addr}, group.Name
	losePrimary(t, cfg, group.Primary, group.Replica, "--redis-master", group.Name)
}

func TestResultsOutliveTheirPrimaryInACluster(t *testing.T) {
	t.Parallel()
	shards := testserver.RedisClusterWithReplicas(t, onDisk...)
	cfg := resultstore.DefaultConfig()
	for _, n := range shards.Primaries {
		cfg.Addrs = append(cfg.Addrs, n.Addr)
	}
	losePrimary(t, cfg, shards.Primaries[0], shards.Replicas[0])
}

// losePrimary kills a primary while jobs flow, when its replica has lost touch with it for a moment. The replica takes
// over: what was finished is as it was, and what the replica never had is written again once there is a replica to
// confirm it, which is the killed server when it is back.
func losePrimary(t *testing.T, cfg resultstore.Config, primary, replica *testserver.RedisServer, settings ...string) {
	t.Helper()
	nats := testserver.NATSProcess(t)
	startOn(t, append(settings, "--nats-url", nats, "--redis-addrs", strings.Join(cfg.Addrs, ","),
		"--redis-wait-replicas", "1", "--redis-wait-timeout", "500ms")...)
	cfg.WaitReplicas = 1
	store := openStore(t, cfg)

	const n, kept = 6000, 500
	var finished []resultstore.Entry
	var records string
	ids := submitThrough(t, nats, n, func(i int, accepted []job.ID) {
		switch i {
		case n / 2:
			finished = confirmed(t, store, accepted[:min(kept, len(accepted))])
			// A replica that is merely stopped would find all that it missed in its socket.
			replica.Do("CONFIG", "SET", "masterauth", "wrong")
			primary.Do("CLIENT", "KILL", "TYPE", "replica")
			primary.Await("connected_slaves:0", "INFO", "replication")
			records = primary.Do("DBSIZE")
		case 3 * n / 4:
			eventually(t, func() error {
				if primary.Do("DBSIZE") == records {
					return errors.New("no result is written")
				}
				return nil
			})
			primary.Kill()
		}
	})
	if len(finished) < kept {
		t.Fatalf("%d jobs were finished before the primary was killed, want %d", len(finished), kept)
	}
	replica.Await("role:master", "INFO", "replication")
	primary.Start()
	rightIn(t, store, ids)
	for i, e := range finished {
		records, err := store.Get(t.Context(), e.ID)
		if err != nil || string(records[0]) != string(e.Record) {
			t.Errorf("job %d was finished, and its record has changed: %v", i, err)
		}
	}
}

// confirmed waits until each job has a record that the replicas have too, and returns the records.
func confirmed(t *testing.T, store resultstore.Store, ids []job.ID) []resultstore.Entry {
	t.Helper()
	entries := make([]resultstore.Entry, len(ids))
	eventually(t, func() error {
		records, err := store.Get(t.Context(), ids...)
		if err != nil {
			return err
		}
		for i := range records {
			if records[i] == nil {
				return errors.New("a job is not finished")
			}
			entries[i] = resultstore.Entry{ID: ids[i], Record: records[i]}
		}
		outcomes, err := store.Finish(t.Context(), entries) // the same bytes again
		for i := range outcomes {
			if outcomes[i].Existing != nil {
				t.Errorf("job %d: its record is not what was read", i)
			}
		}
		return err
	})
	return entries
}
