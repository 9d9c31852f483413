package batch_test

import (
	"crypto/sha256"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/batch"
	"github.com/sheafml/sheaf/internal/failpoint"
)

func once(key, asked string) batch.Once {
	return batch.Once{Key: key, Asked: sha256.Sum256([]byte(asked))}
}

// A batch that is asked for again under its key is the same one: while it runs, when it has ended, and when its file is gone.
func TestAKeyMakesOneBatch(t *testing.T) {
	t.Parallel()
	p := newRig(t, nil).start(nil)
	spec := batch.Spec{Endpoint: endpoint, InputFile: p.upload(t, requests(20, nil))}
	bad := spec
	bad.Endpoint = "/v1/models/none/predict"
	if _, err := p.Create(t.Context(), tenant, bad, once("k", "bad")); err == nil {
		t.Fatal("a bad one was made")
	}
	var made [8]batch.Batch // all at once; and what was refused has not used the key up
	var all sync.WaitGroup
	for i := range made {
		all.Go(func() {
			var err error
			if made[i], err = p.Create(t.Context(), tenant, spec, once("k", "a")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i := range made {
		if made[i].ID != made[0].ID || made[i].ID == "" {
			t.Fatalf("%q and %q", made[i].ID, made[0].ID)
		}
	}
	p.end(t, made[0].ID, batch.Completed)
	if err := p.DeleteFile(t.Context(), tenant, spec.InputFile); err != nil {
		t.Fatal(err)
	}
	again, err := p.Create(t.Context(), tenant, spec, once("k", "a"))
	if err != nil || again.ID != made[0].ID || again.Status != batch.Completed {
		t.Errorf("%+v, %v", again, err)
	}
	if _, err := p.Create(t.Context(), tenant, spec, once("k", "b")); !errors.Is(err, batch.ErrKeyReused) {
		t.Errorf("another one under the same key: %v", err)
	}
	list, _, err := p.List(t.Context(), tenant, "", 100)
	if err != nil || len(list) != 1 {
		t.Errorf("%d batches, %v", len(list), err)
	}
	// What is asked, and by whom, under another key or that of another tenant, is another batch.
	spec.InputFile = p.upload(t, requests(1, nil))
	other, err := p.Create(t.Context(), tenant, spec, once("other", "a"))
	if err != nil || other.ID == again.ID {
		t.Errorf("%+v, %v", other, err)
	}
	if _, err := p.Create(t.Context(), "somebody", spec, once("k", "b")); errors.Is(err, batch.ErrKeyReused) {
		t.Errorf("another tenant's key: %v", err)
	}
}

// A server that dies once it has claimed the key, or has accepted the batch, leaves nothing that another cannot go on with.
func TestAServerThatIsKilledBetweenKeyAndBatch(t *testing.T) {
	t.Parallel()
	for _, at := range []failpoint.Point{failpoint.BatchClaimed, failpoint.BatchAccepted, failpoint.BatchRecorded} {
		r := newRig(t, nil)
		server, dead := r.startKilled(at, 1)
		spec := batch.Spec{Endpoint: endpoint, InputFile: server.upload(t, requests(20, nil))}
		_, _ = server.Create(t.Context(), tenant, spec, once("k", "a"))
		<-dead
		p := r.start(nil)
		b, err := p.Create(t.Context(), tenant, spec, once("k", "a"))
		if err != nil {
			t.Fatal(err)
		}
		p.end(t, b.ID, batch.Completed)
		if list, _, err := p.List(t.Context(), tenant, "", 100); err != nil || len(list) != 1 || list[0].ID != b.ID {
			t.Errorf("%s: %d batches, %v", at, len(list), err)
		}
	}
}

func TestAKeyIsForgotten(t *testing.T) {
	t.Parallel()
	p := newRig(t, func(c *batch.Config) { c.KeyAge = time.Second }).start(nil)
	spec := batch.Spec{Endpoint: endpoint, InputFile: p.upload(t, requests(1, nil))}
	first, err := p.Create(t.Context(), tenant, spec, once("k", "a"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key makes another batch", func() bool {
		b, err := p.Create(t.Context(), tenant, spec, once("k", "b"))
		return err == nil && b.ID != first.ID
	})
}
