package queue_test

import (
	"slices"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

func TestEveryWorkerIsToldOfCanceledJobs(t *testing.T) {
	url := testserver.NATS(t)
	api := connect(t, testConfig(url))
	ids := make([]job.ID, 5000) // more than one notice holds
	for i := range ids {
		ids[i] = newJob(t, nil).ID
	}
	var mu sync.Mutex
	heard := make([][]job.ID, 3)
	for i := range heard {
		stop, err := connect(t, testConfig(url)).OnCanceled(func(ids []job.ID) {
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
	for _, garbage := range []string{"", "garbage"} {
		if err := conn.Publish("sheaf.event.canceled", []byte(garbage)); err != nil {
			t.Fatal(err)
		}
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	// What is finished is not canceled, and the other way round.
	done := make(chan []job.ID, 10)
	stop, err := api.OnDone(func(ids []job.ID) { done <- ids })
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if err := api.NotifyCanceled(ids); err != nil {
		t.Fatal(err)
	}
	if err := api.NotifyDone(ids[:1]); err != nil {
		t.Fatal(err)
	}
	if got := <-done; !slices.Equal(got, ids[:1]) {
		t.Errorf("told that %d jobs are finished", len(got))
	}
	for i := range heard {
		eventually(t, "all notices are heard", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return slices.Equal(heard[i], ids)
		})
	}
}

func TestOnCanceledEndsWithStop(t *testing.T) {
	q := connect(t, testConfig(testserver.NATS(t)))
	first, second := make(chan job.ID, 10), make(chan job.ID, 10)
	stopFirst, err := q.OnCanceled(func(ids []job.ID) { first <- ids[0] })
	if err != nil {
		t.Fatal(err)
	}
	stopSecond, err := q.OnCanceled(func(ids []job.ID) { second <- ids[0] })
	if err != nil {
		t.Fatal(err)
	}
	defer stopSecond()
	stopFirst()
	id := newJob(t, nil).ID
	if err := q.NotifyCanceled([]job.ID{id}); err != nil {
		t.Fatal(err)
	}
	if got := <-second; got != id {
		t.Errorf("heard of %v instead of %v", got, id)
	}
	if len(first) != 0 {
		t.Error("the stopped one was called")
	}
}
