package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/queue"
)

type change struct{ key, value string }

const withdrawn = "<withdrawn>"

// watch collects what is told of announcements. The first n changes have been told when it returns.
func watch(ctx context.Context, t *testing.T, q *queue.Queue, n int) <-chan change {
	t.Helper()
	changes := make(chan change, 100)
	err := q.WatchAnnouncements(ctx, func(key string, value []byte) {
		c := change{key, string(value)}
		if value == nil {
			c.value = withdrawn
		}
		changes <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(changes) != n {
		t.Fatalf("expected %d announcements at the start, got %d", n, len(changes))
	}
	return changes
}

func next(t *testing.T, changes <-chan change) change {
	t.Helper()
	select {
	case c := <-changes:
		return c
	case <-time.After(patience):
		t.Fatal("no change was told")
		return change{}
	}
}

func TestAnnouncementsAreTold(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	worker, shim := connect(t, cfg), connect(t, cfg)
	if err := worker.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	announce := func(key, value string) {
		t.Helper()
		if err := worker.Announce(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	announce("digits/1", "a")
	announce("v1..2./1.0", "b") // dots that a NATS subject would not take
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changes := watch(ctx, t, shim, 2)
	for _, want := range []change{{"digits/1", "a"}, {"v1..2./1.0", "b"}} {
		if got := next(t, changes); got != want {
			t.Errorf("at the start: expected %v, got %v", want, got)
		}
	}
	announce("digits/2", "")
	announce("digits/1", "c")
	if err := worker.Withdraw(t.Context(), "v1..2./1.0"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []change{{"digits/2", ""}, {"digits/1", "c"}, {"v1..2./1.0", withdrawn}} {
		if got := next(t, changes); got != want {
			t.Errorf("later: expected %v, got %v", want, got)
		}
	}
	watch(ctx, t, worker, 2) // who begins now is not told of what was withdrawn before
}

func TestAnnouncementsNeedABucketAndAName(t *testing.T) {
	q := connect(t, testConfig(testserver.NATS(t)))
	if err := q.Announce(t.Context(), "digits/1", nil); err == nil {
		t.Error("announced without a bucket")
	}
	if err := q.WatchAnnouncements(t.Context(), func(string, []byte) {}); err == nil {
		t.Error("watching without a bucket")
	}
	for _, key := range []string{"", "/", "a b", "digits/", "*/1", ">"} {
		if err := q.Announce(t.Context(), key, nil); err == nil {
			t.Errorf("%q is taken for a key", key)
		}
	}
}

func TestAnnouncementsAreToldAcrossARestartOfTheServer(t *testing.T) {
	server := testserver.StartNATS(t, "")
	cfg := testConfig(server.URL())
	worker, shim := connect(t, cfg), connect(t, cfg)
	if err := worker.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	changes := watch(t.Context(), t, shim, 0)
	server.Kill()
	server.Start()
	eventually(t, "the announcement is stored", func() bool {
		return worker.Announce(t.Context(), "digits/1", []byte("a")) == nil
	})
	if got := next(t, changes); got != (change{"digits/1", "a"}) {
		t.Errorf("got %v", got)
	}

	server.Kill()
	server.Wipe()
	server.Start()
	eventually(t, "another announcement is stored", func() bool {
		return worker.EnsureStreams(t.Context()) == nil && worker.Announce(t.Context(), "digits/2", []byte("b")) == nil
	})
	got := map[change]bool{next(t, changes): true, next(t, changes): true}
	if !got[change{"digits/1", withdrawn}] || !got[change{"digits/2", "b"}] {
		t.Errorf("after the server lost everything: got %v", got)
	}
}

func TestNothingIsWrittenForAnAnnouncementThatStands(t *testing.T) {
	cfg := testConfig(testserver.NATS(t))
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, js := operator(t, cfg.URL)
	last := func() uint64 {
		s, err := js.Stream(t.Context(), "KV_sheaf-models")
		if err != nil {
			t.Fatal(err)
		}
		return s.CachedInfo().State.LastSeq
	}
	for i, step := range []struct {
		value string
		want  uint64
	}{{"a", 1}, {"a", 1}, {"b", 2}, {"", 3}, {"", 3}} {
		if err := q.Announce(t.Context(), "digits/1", []byte(step.value)); err != nil {
			t.Fatal(err)
		}
		if got := last(); got != step.want {
			t.Errorf("step %d: expected %d writes, got %d", i, step.want, got)
		}
	}
	for range 2 {
		if err := q.Withdraw(t.Context(), "digits/1"); err != nil {
			t.Fatal(err)
		}
	}
	if got := last(); got != 4 {
		t.Errorf("withdrawn twice: expected 4 writes, got %d", got)
	}
}
