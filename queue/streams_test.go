package queue_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

// operator is what a person with other tools sees and does.
func operator(t testing.TB, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return conn, js
}

func streamConfig(t testing.TB, js jetstream.JetStream, name string) jetstream.StreamConfig {
	t.Helper()
	s, err := js.Stream(t.Context(), name)
	if err != nil {
		t.Fatalf("stream %s: %v", name, err)
	}
	return s.CachedInfo().Config
}

func TestEnsureStreamsMakesWorkQueues(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("ready without streams: expected an error that says so, got %v", err)
	}
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := q.Ready(t.Context()); err != nil {
		t.Errorf("ready: %v", err)
	}
	_, js := operator(t, cfg.URL)
	for lane, want := range map[string]queue.LaneConfig{"interactive": cfg.Interactive, "bulk": cfg.Bulk} {
		c := streamConfig(t, js, lane)
		if c.Retention != jetstream.WorkQueuePolicy || c.Storage != jetstream.FileStorage || c.Discard != jetstream.DiscardNew ||
			!c.DiscardNewPerSubject || !c.AllowDirect || c.Duplicates != cfg.DuplicateWindow {
			t.Errorf("stream %s: %+v", lane, c)
		}
		if c.MaxMsgs != want.MaxMsgs || c.MaxBytes != want.MaxBytes || c.MaxMsgsPerSubject != want.MaxMsgsPerSubject {
			t.Errorf("stream %s: limits %d, %d, %d", lane, c.MaxMsgs, c.MaxBytes, c.MaxMsgsPerSubject)
		}
	}
	dead := streamConfig(t, js, "dead")
	if dead.Retention != jetstream.LimitsPolicy || dead.MaxAge != 14*24*time.Hour || dead.MaxBytes != cfg.Dead.MaxBytes {
		t.Errorf("stream dead: %+v", dead)
	}
}

func TestEnsureStreamsAndConsumersInManyProcessesAtOnce(t *testing.T) {
	// A process: the race detector would find one of nats-server, between an update of a stream and a new consumer.
	url := testserver.NATSProcess(t)
	var wg sync.WaitGroup
	for i := range 8 {
		cfg := testConfig(url)
		cfg.Bulk.MaxMsgs += int64(i) // a rolling change of the settings
		cfg.TenantShares = 1 + i
		q := connect(t, cfg)
		wg.Go(func() {
			if err := q.EnsureStreams(t.Context()); err != nil {
				t.Errorf("process %d: %v", i, err)
				return
			}
			for _, lane := range job.Lanes() {
				if err := q.EnsureConsumer(t.Context(), lane, "digits"); err != nil {
					t.Errorf("process %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	for _, i := range []int64{7, 3} { // one after the other, the order does not count
		cfg := testConfig(url)
		cfg.Bulk.MaxMsgs += i
		cfg.TenantShares = 1 + int(i)
		q := connect(t, cfg)
		if err := q.EnsureStreams(t.Context()); err != nil {
			t.Fatal(err)
		}
		if all := sources(t, q, job.Bulk, "digits"); len(all) != 9 {
			t.Errorf("with a setting of %d shares: expected the largest of the settings, 8, and the spare one, got %d", cfg.TenantShares, len(all))
		}
	}
	_, js := operator(t, url)
	if got, want := streamConfig(t, js, "bulk").MaxMsgs, queue.DefaultConfig().Bulk.MaxMsgs+7; got != want {
		t.Errorf("expected the largest of the limits, %d, got %d", want, got)
	}
}

func TestEnsureStreamsKeepsWhatAnOperatorGaveAStream(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	edited := streamConfig(t, js, "interactive")
	edited.MaxMsgs = 7_000_000   // raised
	edited.MaxBytes = -1         // no limit
	edited.MaxMsgsPerSubject = 5 // lowered
	edited.Description = "the first shift's"
	edited.Duplicates = 10 * time.Minute
	edited.AllowDirect = false
	if _, err := js.UpdateStream(t.Context(), edited); err != nil {
		t.Fatal(err)
	}
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := streamConfig(t, js, "interactive")
	if c.MaxMsgs != 7_000_000 || c.MaxBytes != -1 || c.Description != "the first shift's" || c.Duplicates != 10*time.Minute {
		t.Errorf("the operator's settings did not stay: %+v", c)
	}
	if c.MaxMsgsPerSubject != cfg.Interactive.MaxMsgsPerSubject || !c.AllowDirect {
		t.Errorf("what the settings ask for was not restored: %+v", c)
	}
}

func TestEnsureStreamsRefusesAStreamThatIsNotSheafs(t *testing.T) {
	for name, c := range map[string]jetstream.StreamConfig{
		"retention": {Name: "bulk", Subjects: []string{"sheaf.bulk.>"}},
		"subjects":  {Name: "bulk", Subjects: []string{"ore.>"}, Retention: jetstream.WorkQueuePolicy},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig(testserver.NATS(t))
			_, js := operator(t, cfg.URL)
			if _, err := js.CreateStream(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			err := connect(t, cfg).EnsureStreams(t.Context())
			if err == nil || !strings.Contains(err.Error(), "stream bulk") || !strings.Contains(err.Error(), "another account") {
				t.Errorf("expected an error that names the stream and what to do, got %v", err)
			}
		})
	}
}

func TestUnlimitedStreams(t *testing.T) {
	q := ready(t, func(c *queue.Config) {
		c.Interactive.MaxMsgs, c.Interactive.MaxBytes, c.Interactive.MaxMsgsPerSubject = -1, -1, -1
		c.Interactive.MaxDeliver, c.Interactive.MaxAckPending = -1, -1
		c.Dead.MaxAge, c.Dead.MaxBytes = 0, -1
	})
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatalf("a second time: %v", err)
	}
	publish(t, q, newJob(t, nil))
	fetch(t, source(t, q, job.Interactive, "digits"), 1)
}

func TestReplicasWithoutAClusterSayWhatToDo(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	cfg.Replicas = 3
	err := connect(t, cfg).EnsureStreams(t.Context())
	if err == nil || !strings.Contains(err.Error(), "need a cluster") {
		t.Errorf("expected an error about the cluster, got %v", err)
	}
}

func TestAConsumerNeedsItsStream(t *testing.T) {
	q := connect(t, testConfig(testserver.NATS(t)))
	if err := q.EnsureConsumer(t.Context(), job.Bulk, "digits"); err == nil || !strings.Contains(err.Error(), "EnsureStreams") {
		t.Errorf("consumer: expected an error that says what to do, got %v", err)
	}
	if _, err := q.Sources(t.Context(), job.Bulk, "digits"); err == nil || !strings.Contains(err.Error(), "EnsureConsumer") {
		t.Errorf("source: expected an error that says what to do, got %v", err)
	}
}

// Workers that are running count on their lease, so another process may only make it longer.
func TestAConsumersAckWaitIsRaisedAndNeverLowered(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := source(t, q, job.Bulk, "digits"); s.AckWait() != cfg.Bulk.AckWait {
		t.Errorf("expected an AckWait of %v, got %v", cfg.Bulk.AckWait, s.AckWait())
	}
	for _, want := range []time.Duration{71 * time.Second, 17 * time.Second} {
		cfg.Bulk.AckWait = want
		if s := source(t, connect(t, cfg), job.Bulk, "digits"); s.AckWait() != 71*time.Second {
			t.Errorf("with a setting of %v: expected an AckWait of 71s, got %v", want, s.AckWait())
		}
	}
}

// A stream that took every subject of its lane is narrowed, and keeps its messages.
func TestAWideStreamIsNarrowed(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	_, js := operator(t, cfg.URL)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "interactive", Subjects: []string{"sheaf.interactive.>"}, Retention: jetstream.WorkQueuePolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "sheaf.interactive.digits.default", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if err := connect(t, cfg).EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "interactive")
	if err != nil {
		t.Fatal(err)
	}
	if info := stream.CachedInfo(); info.Config.Subjects[0] != "sheaf.interactive.*.*" || info.State.Msgs != 1 {
		t.Errorf("subjects %v, %d messages", info.Config.Subjects, info.State.Msgs)
	}
}
