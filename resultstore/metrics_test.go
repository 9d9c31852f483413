package resultstore_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/resultstore"
)

// values gathers the counters, and the sample counts of histograms.
func values(t *testing.T, r prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				got[name] = float64(h.GetSampleCount())
			} else {
				got[name] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}

func TestMetrics(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	registry := prometheus.NewRegistry()
	s := open(t, at(server), resultstore.WithRegisterer(registry))
	a, b := newID(t), newID(t)
	mustWin(t, s, a, "a")
	mustWin(t, s, a, "a")
	mustLose(t, s, a, "b", "a")
	if _, err := s.Get(t.Context(), a, b); err != nil {
		t.Fatal(err)
	}
	server.Do("CONFIG", "SET", "maxmemory", "1")
	if _, err := s.Finish(t.Context(), []resultstore.Entry{{ID: a, Record: []byte("x")}, {ID: b}}); err == nil {
		t.Fatal("Finish on a full Redis succeeded")
	}
	want := map[string]float64{
		"sheaf_resultstore_writes_total won": 2, "sheaf_resultstore_writes_total lost": 1, "sheaf_resultstore_writes_total error": 2,
		"sheaf_resultstore_errors_total full": 1, "sheaf_resultstore_errors_total refused": 1,
		"sheaf_resultstore_reads_total found": 1, "sheaf_resultstore_reads_total missing": 1,
		"sheaf_resultstore_write_seconds": 4, "sheaf_resultstore_write_records": 4,
	}
	if diff := cmp.Diff(want, values(t, registry)); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
	if _, err := resultstore.NewMemory(resultstore.DefaultMemoryConfig(), resultstore.WithRegisterer(registry)); err == nil {
		t.Error("a second store registered the same metrics without an error")
	}
}
