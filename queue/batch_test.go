package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func join(list []string) string { return strings.Join(list, " ") }

func batchLimits() queue.BatchLimits {
	return queue.BatchLimits{Lease: time.Second, Max: 5, MaxPerTenant: 2}
}

func batches(t *testing.T, q *queue.Queue) *queue.BatchSource {
	t.Helper()
	s, err := q.Batches(t.Context(), batchLimits())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fetchBatch(t *testing.T, s *queue.BatchSource) *queue.BatchDelivery {
	t.Helper()
	var d *queue.BatchDelivery
	eventually(t, "a batch comes", func() bool {
		var err error
		d, err = s.Fetch(t.Context(), time.Second)
		return err == nil && d != nil
	})
	return d
}

// A batch is one runner's until its lease lapses, and then another's; it goes when it is done.
func TestABatchIsTakenOver(t *testing.T) {
	t.Parallel()
	q := ready(t, nil)
	s := batches(t, q)
	for range 2 { // the same batch twice is one
		if err := q.PublishBatch(t.Context(), "a.b", "batch_1", []byte("spec")); err != nil {
			t.Fatal(err)
		}
	}
	d := fetchBatch(t, s)
	if d.Tenant != "a.b" || d.ID != "batch_1" || string(d.Body) != "spec" {
		t.Fatalf("%+v", d)
	}
	for range 15 { // longer than the lease
		if err := d.Extend(t.Context()); err != nil {
			t.Fatal(err)
		}
		if other, err := s.Fetch(t.Context(), 100*time.Millisecond); err != nil || other != nil {
			t.Fatalf("a batch that is leased came again: %+v, %v", other, err)
		}
	}
	again := fetchBatch(t, s)
	if err := d.Extend(t.Context()); !errors.Is(err, queue.ErrLapsed) {
		t.Errorf("extended when it was another's: %v", err)
	}
	if err := d.Defer(0); !errors.Is(err, queue.ErrLapsed) {
		t.Errorf("given back when it was another's: %v", err)
	}
	if err := again.Defer(0); err != nil {
		t.Fatal(err)
	}
	if err := fetchBatch(t, s).Done(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := q.BatchBacklog(t.Context()); err != nil || n != 0 {
		t.Errorf("%d are left, %v", n, err)
	}
}

func TestBatchesAreBounded(t *testing.T) {
	t.Parallel()
	q := ready(t, nil)
	batches(t, q)
	publish := func(tenant, id string) error { return q.PublishBatch(t.Context(), tenant, id, []byte("spec")) }
	for _, id := range []string{"1", "2"} {
		for _, tenant := range []string{"a", "b"} {
			if err := publish(tenant, tenant+id); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := publish("a", "a3"); !errors.Is(err, queue.ErrTenantFull) {
		t.Errorf("the tenant's third: %v", err)
	}
	if err := publish("c", "c1"); err != nil {
		t.Fatal(err)
	}
	if err := publish("d", "d1"); !errors.Is(err, queue.ErrFull) {
		t.Errorf("one too many: %v", err)
	}
	if err := publish("a b", "x"); err == nil || errors.As(err, new(*job.Error)) == false {
		t.Errorf("a tenant that is none: %v", err)
	}
}

// The consumer is made again when the server has lost all it had.
func TestBatchesComeAfterTheServerLostEverything(t *testing.T) {
	t.Parallel()
	server := testserver.StartNATS(t, "")
	q := connect(t, testConfig(server.URL()))
	s := batches(t, q)
	server.Kill()
	server.Wipe()
	server.Start()
	eventually(t, "the stream is there again", func() bool {
		_, _ = s.Fetch(t.Context(), 100*time.Millisecond)
		return q.PublishBatch(t.Context(), "a", "batch_1", []byte("spec")) == nil
	})
	if d := fetchBatch(t, s); d.ID != "batch_1" {
		t.Errorf("%+v", d)
	}
}
