package queue

import (
	"sync"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

// crowd publishes at the same time, and sees what is being put together.
type crowd struct {
	t       *testing.T
	q       *Queue
	wg      sync.WaitGroup
	mu      sync.Mutex
	tickets []job.Ticket
}

func (c *crowd) publish(n int) {
	for range n {
		c.wg.Go(func() {
			id, err := job.NewID()
			if err != nil {
				c.t.Error(err)
				return
			}
			ticket, _, err := c.q.Publish(c.t.Context(), &job.Job{ID: id, Model: "digits", Tenant: "acme"})
			if err != nil {
				c.t.Error(err)
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			c.tickets = append(c.tickets, ticket)
		})
	}
}

// await waits until cond holds of the jobs that wait to be sent, and of whether a message is held back for more.
func (c *crowd) await(cond func(waiting int, lingers bool) bool) {
	c.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		c.q.groups.mu.Lock()
		waiting, lingers := 0, false
		if s := c.q.groups.live[subjectKey{model: "digits", tenant: "acme"}]; s != nil {
			for _, g := range s.waiting {
				waiting += g.jobs
			}
			lingers = s.ready != nil
		}
		c.q.groups.mu.Unlock()
		if cond(waiting, lingers) {
			return
		}
		select {
		case <-tick.C:
		case <-c.t.Context().Done():
			c.t.Fatal("the jobs did not come together")
		}
	}
}

// finish returns how many jobs each message carries, in the order of the stream.
func (c *crowd) finish() (jobs []int) {
	c.wg.Wait()
	for _, t := range c.tickets {
		for len(jobs) < int(t.Seq) {
			jobs = append(jobs, 0)
		}
		jobs[t.Seq-1]++
	}
	return jobs
}

// newCrowd has the first message in flight at a server that does not answer, and n jobs behind it.
func newCrowd(t *testing.T, n int) (c *crowd, resume func()) {
	t.Helper()
	server := testserver.StartNATS(t, "")
	cfg := DefaultConfig()
	cfg.URL, cfg.Publish.MaxJobs, cfg.Publish.Timeout = server.URL(), 16, time.Minute
	q, err := Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	q.cfg.Publish.Linger = time.Hour // no setting may be so long
	c = &crowd{t: t, q: q}
	server.Pause()
	c.publish(1 + n)
	c.await(func(waiting int, _ bool) bool { return waiting == n })
	return c, server.Resume
}

// After a message of many jobs the next one waits for as many again, up to what a message may carry.
func TestAMessageWaitsForMoreAfterACrowd(t *testing.T) {
	c, resume := newCrowd(t, 10)
	resume()
	c.await(func(_ int, lingers bool) bool { return lingers })
	c.publish(15)
	c.await(func(waiting int, _ bool) bool { return waiting == 15 })
	c.publish(1)
	if jobs := c.finish(); len(jobs) != 3 || jobs[0] != 1 || jobs[1] != 10 || jobs[2] != 16 {
		t.Errorf("the messages carry %v jobs, expected 1, 10 and 16", jobs)
	}
}

// Few that came together are no reason to make the next one wait.
func TestAMessageDoesNotWaitAfterAFew(t *testing.T) {
	c, resume := newCrowd(t, lingerFrom-1)
	resume()
	c.wg.Wait()
	c.publish(1) // it would be sent in an hour
	if jobs := c.finish(); len(jobs) != 3 || jobs[2] != 1 {
		t.Errorf("the messages carry %v jobs, expected 1, %d and 1", jobs, lingerFrom-1)
	}
}

// A wait for more ends with the queue, and with time.
func TestALingerEnds(t *testing.T) {
	c, resume := newCrowd(t, 10)
	resume()
	c.await(func(_ int, lingers bool) bool { return lingers })
	c.wg.Wait()
	if err := c.q.Close(); err != nil {
		t.Fatal(err)
	}
}
