package auth_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/auth"
)

func limiter(t testing.TB, r auth.Rate) *auth.Limiter {
	t.Helper()
	l, err := auth.NewLimiter(r)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestARateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, auth.Rate{PerSecond: 10, Burst: 20})
		a, b := &auth.Principal{Kind: auth.KindKey, ID: "a"}, &auth.Principal{Kind: auth.KindToken, ID: "a"}
		q, ok := l.Allow(a, 15)
		if !ok || q.Policy() != `"default";q=20;w=2` || q.State() != `"default";r=5;t=2` {
			t.Errorf("%v %s %s", ok, q.Policy(), q.State())
		}
		q, ok = l.Allow(a, 6)
		if ok || q.After != 100*time.Millisecond || q.Remaining != 5 {
			t.Errorf("one too many: %v %+v", ok, q)
		}
		if _, ok = l.Allow(a, 5); !ok {
			t.Error("what was refused was counted")
		}
		if _, ok = l.Allow(b, 20); !ok {
			t.Error("another caller pays for it")
		}
		<-time.After(99 * time.Millisecond)
		if _, ok = l.Allow(a, 1); ok {
			t.Error("allowed too soon")
		}
		<-time.After(time.Millisecond)
		if q, ok = l.Allow(a, 1); !ok || q.Remaining != 0 || q.Reset != 2*time.Second {
			t.Errorf("%v %+v", ok, q)
		}
		<-time.After(time.Hour)
		if q, ok = l.Allow(a, 21); ok || q.Remaining != 20 || q.After != 0 {
			t.Errorf("more than ever: %v %+v", ok, q)
		}
	})
}

func TestAKeyMayHaveARateOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, auth.Rate{PerSecond: 1})
		own := &auth.Principal{ID: "a", Rate: &auth.Rate{PerSecond: 100}}
		if q, ok := l.Allow(own, 100); !ok || q.Limit != 100 {
			t.Errorf("%v %+v", ok, q)
		}
		own = &auth.Principal{ID: "a", Rate: &auth.Rate{PerSecond: 1000}}
		<-time.After(time.Second)
		if q, ok := l.Allow(own, 100); !ok || q.Limit != 1000 {
			t.Errorf("after it was raised: %v %+v", ok, q)
		}
		free := &auth.Principal{ID: "b", Rate: &auth.Rate{}}
		for _, p := range []*auth.Principal{free, nil} {
			if q, ok := l.Allow(p, 1_000_000); !ok || q.Limited() {
				t.Errorf("without a limit: %v %+v", ok, q)
			}
		}
		if q, ok := limiter(t, auth.Rate{}).Allow(&auth.Principal{ID: "c"}, 1_000_000); !ok || q.Limited() {
			t.Errorf("without a default: %v %+v", ok, q)
		}
	})
}

func TestALimiterForgetsWhoIsLongGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, auth.Rate{PerSecond: 1})
		busy := &auth.Principal{ID: "busy"}
		l.Allow(busy, 1)
		for i := range 30_000 {
			l.Allow(&auth.Principal{ID: fmt.Sprint(i)}, 1)
			if _, ok := l.Allow(busy, 1); ok {
				t.Fatal("who is busy was forgotten")
			}
		}
		if n := l.Len(); n != 10_000 {
			t.Errorf("%d are kept", n)
		}
	})
}

func TestRatesThatAreNone(t *testing.T) {
	for _, r := range []auth.Rate{{PerSecond: -1}, {PerSecond: 1e-9}, {PerSecond: 1e12}, {PerSecond: 1, Burst: -1}} {
		if _, err := auth.NewLimiter(r); err == nil {
			t.Errorf("%+v", r)
		}
	}
}
