package queue

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestHeldAck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h heldAck
		var mu sync.Mutex
		var sent []int
		finish := func(n int, mayHold bool) {
			if err := h.finish(func() error {
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, n)
				return nil
			}, mayHold); err != nil {
				t.Error(err)
			}
		}
		expect := func(what string, want ...int) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !slices.Equal(sent, want) {
				t.Errorf("%s: %v were sent, expected %v", what, sent, want)
			}
			sent = nil
		}
		pause := func(d time.Duration) { <-time.After(d) }

		finish(1, true)
		expect("one that is alone", 1)
		pause(ackHold)
		finish(2, true)
		expect("another one", 2)
		finish(3, true)
		expect("one that follows at once")
		for n := 4; n < 100; n++ {
			pause(ackHold / 2)
			finish(n, true)
			expect("one that follows a held one", n-1)
		}
		pause(ackHold / 2)
		finish(100, false)
		expect("one that may not be held", 100)
		pause(ackHold)
		expect("when none follows", 99)
		pause(time.Hour)
		expect("afterwards")
		finish(101, true)
		finish(102, true)
		expect("two", 101)
		h.flush()
		expect("on the way down", 102)
		pause(time.Hour)
		expect("after that")
	})
}
