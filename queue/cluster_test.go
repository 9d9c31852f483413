package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func TestAClusterLosesAServerAndNoJob(t *testing.T) {
	servers := testserver.StartNATSCluster(t, 3)
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	cfg := testConfig(strings.Join(urls, ","))
	cfg.Replicas = 3
	cfg.ConnectTimeout, cfg.Publish.Timeout, cfg.RequestTimeout = 2*patience, 2*patience, patience
	cfg.Interactive.MaxMsgsPerSubject = 3000
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil { // before the cluster is ready
		t.Fatal(err)
	}
	s := source(t, q, job.Interactive, "digits")
	_, js := operator(t, cfg.URL)
	stream, err := js.Stream(t.Context(), "interactive")
	if err != nil {
		t.Fatal(err)
	}
	leader := stream.CachedInfo().Cluster.Leader

	tickets := map[job.ID]job.Ticket{}
	for i := range 40 {
		if i == 10 {
			for n, server := range servers {
				if leader == "n"+string(rune('0'+n)) {
					server.Kill()
				}
			}
		}
		jobs := newJobs(t, 100, nil)
		got, err := q.PublishSheaf(t.Context(), jobs)
		if err != nil {
			t.Fatalf("sheaf %d: %v", i, err)
		}
		for _, ticket := range got {
			tickets[ticket.ID] = ticket
		}
		// Any replica may answer, also one that lags.
		if l, err := q.Locate(t.Context(), got[len(got)-1]); err != nil || l.State != job.Queued {
			t.Errorf("sheaf %d: located %v, %v", i, l, err)
		}
	}
	seen := map[job.ID]bool{}
	eventually(t, "every job is delivered", func() bool {
		_, err := s.Fetch(t.Context(), 100, time.Second, func(d *queue.Delivery) {
			for place, id := range decode(t, d) {
				if ticket := tickets[id]; ticket.Seq != d.Seq || ticket.Index != place {
					t.Errorf("job %v is at message %d, place %d; its ticket says %v", id, d.Seq, place, ticket)
				}
				seen[id] = true
			}
			if err := d.Ack(); err != nil {
				t.Errorf("ack: %v", err)
			}
		})
		if err != nil && !errors.Is(err, queue.ErrUnavailable) {
			t.Fatal(err)
		}
		return len(seen) == len(tickets)
	})
}

func TestAClustersLimitsHaveErrorsOfTheirOwn(t *testing.T) {
	servers := testserver.StartNATSCluster(t, 3)
	cfg := testConfig(servers[0].URL())
	cfg.Replicas, cfg.ConnectTimeout, cfg.Publish.Timeout = 3, 2*patience, patience
	cfg.Interactive.MaxMsgsPerSubject = 2
	cfg.Bulk.MaxMsgs = 2
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	for lane, want := range map[job.Lane]error{job.Interactive: queue.ErrTenantFull, job.Bulk: queue.ErrFull} {
		for range 2 {
			publish(t, q, newJob(t, func(j *job.Job) { j.Lane = lane }))
		}
		refused := newJob(t, func(j *job.Job) { j.Lane = lane })
		if _, _, err := q.Publish(t.Context(), refused); !errors.Is(err, want) {
			t.Errorf("lane %s: expected %v, got %v", lane, want, err)
		}
		if err := fetch(t, source(t, q, lane, "digits"), 1)[0].Ack(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "there is room again", func() bool {
			ticket, duplicate, err := q.Publish(t.Context(), refused)
			if duplicate {
				t.Fatal("a job that was refused is taken for a duplicate")
			}
			if err != nil {
				return false
			}
			_, err = q.Locate(t.Context(), ticket)
			return err == nil
		})
	}
}
