package main

import (
	"testing"
	"time"
)

// series makes one sample a second with the given RSS.
func series(rss ...float64) []resources {
	var list []resources
	for i, v := range rss {
		list = append(list, resources{At: float64(i), RSS: v, Goroutines: -1, OpenFDs: -1, Descriptors: 10})
	}
	return list
}

func TestDrift(t *testing.T) {
	const mb = 1 << 20
	for _, tt := range []struct {
		name        string
		rss         []resources
		first, last float64
		flat        bool
	}{
		{"flat", series(9*mb, 500*mb, 501*mb, 500*mb, 500*mb, 502*mb, 501*mb), 500 * mb, 501 * mb, true},
		{"grows", series(9*mb, 500*mb, 500*mb, 500*mb, 600*mb, 700*mb, 700*mb), 500 * mb, 700 * mb, false},
		{"a little more than a small process had", series(9*mb, 20*mb, 20*mb, 20*mb, 30*mb, 30*mb, 30*mb), 20 * mb, 30 * mb, true},
		{"an outlier is no drift", series(9*mb, 500*mb, 500*mb, 500*mb, 500*mb, 5000*mb, 500*mb), 500 * mb, 500 * mb, true},
		{"it may shrink", series(9*mb, 500*mb, 500*mb, 500*mb, 100*mb, 100*mb, 100*mb), 500 * mb, 100 * mb, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list := drifts([]string{"p"}, map[string][]resources{"p": tt.rss}, time.Second, 3*time.Second)
			if len(list) != 2 || list[0].What != "RSS" || list[1].What != "descriptors" {
				t.Fatalf("expected RSS and descriptors, and nothing that the process does not tell: %+v", list)
			}
			if d := list[0]; d.First != tt.first || d.Last != tt.last || d.Flat != tt.flat {
				t.Errorf("got %+v, want %v to %v, flat %v", d, tt.first, tt.last, tt.flat)
			}
		})
	}
}

func TestGauge(t *testing.T) {
	const page = "# TYPE go_goroutines gauge\ngo_goroutines 42\ngo_goroutines_more 7\nprocess_open_fds 1.2e+01\n"
	if got := gauge(page, "go_goroutines"); got != 42 {
		t.Errorf("go_goroutines: got %v", got)
	}
	if got := gauge(page, "process_open_fds"); got != 12 {
		t.Errorf("process_open_fds: got %v", got)
	}
	if got := gauge(page, "go_threads"); got != -1 {
		t.Errorf("what is not there: got %v", got)
	}
}

func TestResidentPages(t *testing.T) {
	if got, err := residentPages([]byte("12345 678 90 1 0 2 0\n")); err != nil || got != 678 {
		t.Errorf("got %d, %v", got, err)
	}
	if _, err := residentPages([]byte("12345")); err == nil {
		t.Error("half a line was read")
	}
}
