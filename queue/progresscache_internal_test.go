package queue

import (
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Two looks at a backlog give its rate, so the second one comes soon.
func TestProgressIsFreshForLessUntilTheRateIsKnown(t *testing.T) {
	k := progressKey{job.Interactive, "m"}
	for _, c := range []struct {
		name  string
		looks []*progress
		fresh time.Duration
	}{
		{"nothing waits", []*progress{seen(0, 0, 0, 0, 0)}, progressFor},
		{"messages wait", []*progress{seen(0, 9, 0, 0, 0)}, minInterval},
		{"the rate is known", []*progress{seen(0, 9, 0, 0, 0), seen(1, 9, 0, 5, 5)}, progressFor},
	} {
		var cache progressCache
		var last time.Time
		for _, p := range c.looks {
			_, r, mine := cache.get(k, p.at)
			if !mine {
				t.Fatalf("%s: nobody is to look", c.name)
			}
			cache.set(k, r, p, nil)
			last = p.at
		}
		if _, r, _ := cache.get(k, last.Add(c.fresh-1)); r != nil {
			t.Errorf("%s: looked at again after less than %v", c.name, c.fresh)
		}
		if _, r, _ := cache.get(k, last.Add(c.fresh)); r == nil {
			t.Errorf("%s: not looked at again after %v", c.name, c.fresh)
		}
	}
}
