package worker

import (
	"testing"
	"testing/synctest"
	"time"
)

// stuckLease takes its time to be extended.
type stuckLease struct{ release chan struct{} }

func (s stuckLease) Ack() error                { return nil }
func (s stuckLease) Retry(time.Duration) error { return nil }
func (s stuckLease) Extend() error             { <-s.release; return nil }

// Whoever takes or settles a message does not wait for the network that the keeper waits for.
func TestNobodyWaitsForTheKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &leaseList{ackWait: 3 * time.Second}
		release := make(chan struct{})
		newMessage := func() *message {
			return &message{lease: stuckLease{release}, taken: time.Now(), leases: l}
		}
		settled, kept := newMessage(), newMessage()
		l.add(settled)
		l.add(kept)
		takes(l.ackWait / 3)
		renewed := make(chan error, 1)
		go func() { renewed <- l.renew(time.Now()) }()
		synctest.Wait() // it hangs in the first
		fresh := newMessage()
		l.add(fresh)
		l.remove(settled)
		close(release)
		if err := <-renewed; err != nil {
			t.Fatal(err)
		}
		held := l.clear()
		if len(held) != 2 || held[0] != fresh && held[1] != fresh || held[0] != kept && held[1] != kept {
			t.Errorf("%d messages are kept, want the two that are not settled", len(held))
		}
	})
}
