package queue_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

func TestEveryProcessIsToldOfFinishedJobs(t *testing.T) {
	url := testserver.NATS(t)
	worker := connect(t, testConfig(url))
	const total = 5000 // more than one notice holds
	ids := make([]job.ID, total)
	for i := range ids {
		ids[i] = newJob(t, nil).ID
	}
	var mu sync.Mutex
	heard := make([][]job.ID, 3)
	for i := range heard {
		stop, err := connect(t, testConfig(url)).OnDone(func(ids []job.ID) {
			mu.Lock()
			defer mu.Unlock()
			heard[i] = append(heard[i], ids...)
		})
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
	}
	conn, _ := operator(t, url)
	if err := conn.Publish("sheaf.event.done", []byte("garbage")); err != nil {
		t.Fatal(err)
	}
	if err := worker.NotifyDone(nil); err != nil {
		t.Error(err)
	}
	if err := worker.NotifyDone(ids); err != nil {
		t.Fatal(err)
	}
	for i := range heard {
		eventually(t, "all notices are heard", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(heard[i], ids)
		})
	}
}

func TestOnDoneEndsWithStop(t *testing.T) {
	q := connect(t, testConfig(testserver.NATS(t)))
	first, second := make(chan job.ID, 10), make(chan job.ID, 10)
	stopFirst, err := q.OnDone(func(ids []job.ID) { first <- ids[0] })
	if err != nil {
		t.Fatal(err)
	}
	stopSecond, err := q.OnDone(func(ids []job.ID) { second <- ids[0] })
	if err != nil {
		t.Fatal(err)
	}
	defer stopSecond()
	stopFirst()
	id := newJob(t, nil).ID
	if err := q.NotifyDone([]job.ID{id}); err != nil {
		t.Fatal(err)
	}
	if got := <-second; got != id {
		t.Errorf("heard of %v instead of %v", got, id)
	}
	if len(first) != 0 {
		t.Error("the stopped one was called")
	}
}

func TestReply(t *testing.T) {
	url := testserver.NATS(t)
	q := connect(t, testConfig(url))
	conn, _ := operator(t, url)
	inbox := conn.NewInbox()
	sub, err := conn.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	header := map[string]string{job.HeaderState: "failed", "X-Text": "two\r\nlines: yes"}
	if err := q.Reply(inbox, header, []byte("outcome")); err != nil {
		t.Fatal(err)
	}
	m, err := sub.NextMsg(patience)
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Data) != "outcome" || m.Header.Get(job.HeaderState) != "failed" || len(m.Header) != 2 {
		t.Errorf("got %q with %v", m.Data, m.Header)
	}
}

// A reply subject is a stranger's: it must not make the worker's credentials speak to JetStream.
func TestReplyRefusesDangerousSubjects(t *testing.T) {
	url := testserver.NATS(t)
	q := connect(t, testConfig(url))
	conn, _ := operator(t, url)
	all, err := conn.SubscribeSync(">")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{
		"", "$JS.API.STREAM.DELETE.interactive", "$SYS.x", "$KV.sheaf-models.digits/1", "sheaf.interactive.digits.default",
		"sheaf.event.done", "sheaf", "a.*", "a.>", "a b", "a\r\nPUB x 0", "a..b", ".a", "a.", string(make([]byte, 300)),
	} {
		if err := q.Reply(subject, nil, nil); err == nil {
			t.Errorf("%q is taken", subject)
		}
	}
	if err := q.Reply("sheaflike.inbox", nil, nil); err != nil {
		t.Errorf("a harmless subject is refused: %v", err)
	}
	m, err := all.NextMsg(patience)
	if err != nil || m.Subject != "sheaflike.inbox" {
		t.Errorf("expected only the harmless one, got %v, %v", m, err)
	}
}
