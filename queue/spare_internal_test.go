package queue

import (
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

// Who goes past the crowd of its share, by what is known of it.
func TestShareFor(t *testing.T) {
	const home, spare = 1, 2
	seen := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	k := subjectKey{job.Interactive, "digits", "tenant"}
	if shareOf(k.tenant, 2) != home {
		t.Fatal("the tenant is of another share")
	}
	for name, c := range map[string]struct {
		crowd, other, spare, passed uint64
		unserved                    bool
		own                         owned
		past                        bool
	}{
		"nothing waits":                      {},
		"nothing of its own":                 {crowd: 1, past: true},
		"a crowd of others":                  {crowd: 101, own: owned{home: 50}, past: true},
		"half of the crowd is its own":       {crowd: 101, own: owned{home: 51}},
		"the crowd is of another share":      {other: 100},
		"the spare share is not served":      {crowd: 100, unserved: true},
		"the spare share is half as full":    {crowd: 100, spare: 50},
		"it is not quite":                    {crowd: 100, spare: 49, past: true},
		"it is, with what went there since":  {crowd: 100, spare: 20, passed: 30},
		"a quarter of the crowd is past it":  {crowd: 100, own: owned{spare: 25}, past: true},
		"more than a quarter is":             {crowd: 100, own: owned{spare: 26}},
		"what it has elsewhere is no matter": {crowd: 100, own: owned{0: 1000}, past: true},
	} {
		p := &progress{seen: seen, shares: []shareProgress{{served: true, waiting: c.other}, {served: true, waiting: c.crowd}, {served: !c.unserved, waiting: c.spare}}}
		p.passed.Store(c.passed)
		q := &Queue{holdings: holdings{seen: map[subjectKey]*holding{k: {at: seen.Add(1), n: c.own}}}}
		share, past := q.shareFor(t.Context(), k, p)
		if past != c.past || past && share != spare || !past && share != home {
			t.Errorf("%s: share %d, past the crowd: %v", name, share, past)
		}
	}
	one := &progress{seen: seen, shares: []shareProgress{{served: true, waiting: 100}}}
	if share, past := (&Queue{}).shareFor(t.Context(), k, one); share != 0 || past {
		t.Errorf("in a lane of one share: share %d, %v", share, past)
	}
}
