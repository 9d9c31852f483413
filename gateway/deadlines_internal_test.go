package gateway

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

type key struct{}

func TestSharedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &deadlines{timeout: 16 * time.Second}
		began := time.Now()
		ended := make(chan time.Duration, 4)
		for i, begin := range []context.Context{context.Background(), context.WithValue(context.Background(), key{}, 1)} {
			<-time.After(time.Duration(i) * 900 * time.Millisecond)
			ctx, cancel := d.limit(begin)
			cancel() // of this call, and of none beside it
			if ctx.Value(key{}) != begin.Value(key{}) {
				t.Errorf("call %d has the value %v", i, ctx.Value(key{}))
			}
			go func() {
				<-ctx.Done()
				if ctx.Err() != context.DeadlineExceeded {
					t.Error(ctx.Err())
				}
				ended <- time.Since(began)
			}()
		}
		<-time.After(200 * time.Millisecond)
		late, cancel := d.limit(context.Background())
		cancel()
		off, cancel := context.WithCancel(t.Context())
		called, cancelled := d.limit(off)
		defer cancelled()
		cancel()
		if called.Err() == nil || late.Err() != nil {
			t.Errorf("what is called off: %v, what is not: %v", called.Err(), late.Err())
		}
		for range 2 {
			if took := <-ended; took != 16*time.Second {
				t.Errorf("ended after %s", took)
			}
		}
		<-late.Done()
		if took := time.Since(began); took != 16*time.Second+1100*time.Millisecond {
			t.Errorf("the late one ended after %s", took)
		}
	})
}
