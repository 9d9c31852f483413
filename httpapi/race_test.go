package httpapi_test

import (
	"sync"
	"testing"

	"github.com/sheafml/sheaf/gateway"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/producer"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// The real parts fit.
var (
	_ gateway.Submitter = (*producer.Producer)(nil)
	_ gateway.Models    = (*model.Catalog)(nil)
	_ gateway.Results   = resultstore.Store(nil)
	_ gateway.Queue     = (*queue.Queue)(nil)
)

// A cancel, a worker and two who wait meet at one job. Whoever writes first is believed by all.
func TestCancelRacesTheWorker(t *testing.T) {
	r := newRig(t, nil)
	for range 100 {
		ticket := r.submit(t)
		var wg sync.WaitGroup
		var canceled reply
		var won bool
		seen := make([]reply, 2)
		wg.Go(func() { canceled = r.call(t, "DELETE", "/v1/jobs/"+ticket.String(), "") })
		wg.Go(func() { won = r.settle(t, ticket, job.Result{State: job.Succeeded}) })
		for i := range seen {
			wg.Go(func() { seen[i] = r.call(t, "GET", "/v1/jobs/"+ticket.String()+"?wait=30s", "") })
		}
		wg.Wait()
		want, status := "canceled", 200
		if won {
			want, status = "succeeded", 409
		}
		if canceled.status != status {
			t.Fatalf("the job is %s and DELETE answered %d: %s", want, canceled.status, canceled.body)
		}
		for _, a := range append(seen, r.call(t, "GET", "/v1/jobs/"+ticket.String(), "")) {
			if a.str("status") != want {
				t.Fatalf("expected everybody to see the job %s: %s", want, a.body)
			}
		}
	}
}

func BenchmarkSubmit(b *testing.B) {
	r := newRig(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if a := r.call(b, "POST", "/v1/models/digits/jobs", oneRow); a.status != 202 {
			b.Fatal(a.body)
		}
	}
}
