package worker

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/sheafml/sheaf/job"
)

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	err := (&Config{MaxAttempts: -1, ReserveBulk: 0.6, BulkSlice: -1, Settlers: -1, RetryDelay: 2, RetryDelayMax: 1}).Validate()
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, name := range []string{
		"DrainTimeout", "MaxAttempts", "ReserveBulk", "BulkSlice", "Ahead", "LeaseFraction", "BufferBytes", "Settlers", "RunTimeout", "FetchWait",
		"RetryDelayMax", "OutageDelay", "MaxBytes",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := doublerModel(1, nil)
	change := func(fn func(*Model)) []Model {
		m := good
		fn(&m)
		return []Model{m}
	}
	deps := Deps{Results: newFakeStore()}
	for _, tt := range []struct {
		want   string
		deps   Deps
		models []Model
	}{
		{"result store", Deps{}, []Model{good}},
		{"at least one model", deps, nil},
		{"given twice", deps, []Model{good, good}},
		{"NewInstance", deps, change(func(m *Model) { m.NewInstance = nil })},
		{"MaxRows", deps, change(func(m *Model) { m.MaxRows = -1 })},
		{"MaxDelay", deps, change(func(m *Model) { m.MaxDelay = -1 })},
		{"Instances", deps, change(func(m *Model) { m.Instances = -1 })},
		{"version", deps, change(func(m *Model) { m.Info.Version = "" })},
	} {
		if _, err := newPool(DefaultConfig(), tt.deps, newFakeBroker(), tt.models); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("got error %v, want one about %q", err, tt.want)
		}
	}
	if _, err := New(DefaultConfig(), deps, good); err == nil || !strings.Contains(err.Error(), "queue") {
		t.Errorf("got error %v, want one about the queue", err)
	}
}

func TestPoolRunsOnce(t *testing.T) {
	inRig(t, func(r *rig) {
		r.double(nil)
		if err := r.shutdown(); err != nil {
			t.Error(err)
		}
		if err := r.pool.Run(t.Context()); err == nil {
			t.Error("a pool ran a second time")
		}
	})
}

func TestMetrics(t *testing.T) {
	inRig(t, func(r *rig) {
		r.registry = prometheus.NewRegistry()
		r.double(poison(666))
		late := doubleJob(t, 5)
		r.store.set(func() { r.store.records[late.ID] = []byte("not one of ours") })
		r.publish(job.Interactive, doubleJob(t, 1), doubleJob(t, 2, 3), doubleJob(t, 666))
		r.redeliver(1, late, doubleJob(t, 4))
		err := testutil.GatherAndCompare(r.registry, strings.NewReader(`
# HELP sheaf_worker_buffered_rows Rows fetched and not yet in a batch.
# TYPE sheaf_worker_buffered_rows gauge
sheaf_worker_buffered_rows{lane="bulk",model="double"} 0
sheaf_worker_buffered_rows{lane="interactive",model="double"} 0
# HELP sheaf_worker_in_flight_rows Rows being computed or written.
# TYPE sheaf_worker_in_flight_rows gauge
sheaf_worker_in_flight_rows{model="double"} 0
# HELP sheaf_worker_jobs_total Jobs whose record this worker wrote, by outcome: succeeded, failed, expired; canceled only where the API had not written it.
# TYPE sheaf_worker_jobs_total counter
sheaf_worker_jobs_total{model="double",outcome="canceled"} 0
sheaf_worker_jobs_total{model="double",outcome="expired"} 0
sheaf_worker_jobs_total{model="double",outcome="failed"} 1
sheaf_worker_jobs_total{model="double",outcome="succeeded"} 3
# HELP sheaf_worker_redelivered_messages_total Messages delivered that had been delivered before.
# TYPE sheaf_worker_redelivered_messages_total counter
sheaf_worker_redelivered_messages_total{lane="bulk",model="double"} 0
sheaf_worker_redelivered_messages_total{lane="interactive",model="double"} 1
`), "sheaf_worker_buffered_rows", "sheaf_worker_in_flight_rows", "sheaf_worker_jobs_total", "sheaf_worker_redelivered_messages_total")
		if err != nil {
			t.Error(err)
		}
		_ = r.shutdown()
	})
}
