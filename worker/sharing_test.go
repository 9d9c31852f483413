package worker_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/worker"
)

// TestFloodOfOneTenantDoesNotDelayTheOthers: with 20,000 jobs of one tenant waiting, those of the tenants that are not in
// its share are computed at once.
func TestFloodOfOneTenantDoesNotDelayTheOthers(t *testing.T) {
	q := connect(t, testserver.NATS(t), nil)
	results := openMemory(t)
	const flood, others = 20_000, 16
	var rows atomic.Int64
	m := doublingModel(func(n int) {
		rows.Add(int64(n))
		<-time.After(3 * time.Millisecond)
	})
	jobs := numbers(t, flood, job.Bulk, oneRow)
	for _, j := range jobs {
		j.Tenant = "flood"
	}
	publish(t, q, jobs)
	run(t, worker.DefaultConfig(), q, results, m)
	await(t, results, jobs[0].ID)
	few := numbers(t, others, job.Bulk, oneRow)
	for i, j := range few {
		j.Tenant = fmt.Sprint("tenant", i)
		publish(t, q, few[i:i+1])
	}
	quick := func() (n int) {
		for _, j := range few {
			if records, err := results.Get(t.Context(), j.ID); err == nil && records[0] != nil {
				n++
			}
		}
		return n
	}
	// Of 16 tenants in 8 shares, 14 are not in the flood's on average.
	eventually(t, "the other tenants' jobs are done", func() bool { return quick() >= others*5/8 })
	if n := rows.Load(); n > flood/2 {
		t.Errorf("%d rows of a flood of %d were computed before the other tenants' jobs", n, flood)
	}
	wantDoubled(t, results, few)
}
