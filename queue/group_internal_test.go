package queue

import (
	"fmt"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

func TestNothingIsKeptOfTenantsThatAreGone(t *testing.T) {
	cfg := DefaultConfig()
	cfg.URL = testserver.NATS(t)
	q, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 400 {
		wg.Go(func() {
			id, err := job.NewID()
			if err == nil {
				_, _, err = q.Publish(t.Context(), &job.Job{ID: id, Model: "digits", Tenant: fmt.Sprintf("t%d", i%20)})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := q.Close(); err != nil { // what runs on for a moment has ended
		t.Fatal(err)
	}
	if n := len(q.groups.live); n != 0 {
		t.Errorf("%d subjects are kept", n)
	}
	if n := len(q.replies.calls); n != 0 {
		t.Errorf("%d publishes still wait for their answer", n)
	}
}
