package queue_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func TestAnIdleQueuePublishesEachJobByItself(t *testing.T) {
	q := ready(t, nil)
	for want := uint64(1); want <= 5; want++ {
		if ticket := publish(t, q, newJob(t, nil)); ticket.Seq != want || ticket.Index != 0 {
			t.Errorf("expected message %d, place 0, got %d and %d", want, ticket.Seq, ticket.Index)
		}
	}
}

// publishAtOnce publishes all jobs from as many goroutines, and returns their tickets and errors.
func publishAtOnce(ctx context.Context, q *queue.Queue, jobs []*job.Job) (tickets []job.Ticket, errs []error, wait func()) {
	tickets, errs = make([]job.Ticket, len(jobs)), make([]error, len(jobs))
	var wg sync.WaitGroup
	for i, j := range jobs {
		wg.Go(func() { tickets[i], _, errs[i] = q.Publish(ctx, j) })
	}
	return tickets, errs, wg.Wait
}

func TestJobsThatArriveDuringAPublishTravelTogether(t *testing.T) {
	server := testserver.StartNATS(t, "")
	cfg := testConfig(server.URL())
	cfg.Publish.MaxJobs = 16
	cfg.Publish.Timeout = patience
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs := newJobs(t, 200, nil)
	jobs[7].Idempotent = true
	server.Pause() // so that the first publish is in flight while the others come
	tickets, errs, wait := publishAtOnce(t.Context(), q, jobs)
	server.Resume()
	wait()

	messages := map[uint64]int{}
	for i, j := range jobs {
		if errs[i] != nil {
			t.Fatalf("job %d: %v", i, errs[i])
		}
		messages[tickets[i].Seq]++
		if l, err := q.Locate(t.Context(), tickets[i]); err != nil || l.State != job.Queued {
			t.Errorf("job %d is not where its ticket %v says: %v, %v", i, tickets[i], l, err)
		}
		wrong := tickets[i]
		wrong.Index++
		if _, err := q.Locate(t.Context(), wrong); !errors.Is(err, job.ErrNotFound) {
			t.Errorf("job %d was found at the wrong place %v: %v", i, wrong, err)
		}
		if tickets[i].ID != j.ID {
			t.Errorf("job %d has the ticket of another job", i)
		}
	}
	if len(messages) > len(jobs)/2 {
		t.Errorf("expected far fewer messages than the %d jobs, got %d", len(jobs), len(messages))
	}
	for seq, n := range messages {
		if n > 16 {
			t.Errorf("message %d carries %d jobs, and 16 are allowed", seq, n)
		}
	}
	if messages[tickets[7].Seq] != 1 {
		t.Errorf("the job with an Idempotency-Key travels with %d others", messages[tickets[7].Seq]-1)
	}

	s := source(t, q, job.Interactive, "digits")
	carried := map[job.ID]bool{}
	for _, d := range fetch(t, s, len(messages)) {
		for place, id := range decode(t, d) {
			if carried[id] {
				t.Errorf("job %v is carried twice", id)
			}
			carried[id] = true
			for i := range tickets {
				if tickets[i].ID == id && (tickets[i].Seq != d.Seq || tickets[i].Index != place) {
					t.Errorf("job %v is at message %d, place %d; its ticket says %v", id, d.Seq, place, tickets[i])
				}
			}
		}
	}
	if len(carried) != len(jobs) {
		t.Errorf("expected %d jobs in the stream, got %d", len(jobs), len(carried))
	}
}

func TestMessagesAreBoundedInBytes(t *testing.T) {
	server := testserver.StartNATS(t, "")
	cfg := testConfig(server.URL())
	cfg.Publish.MaxBytes = 4096
	cfg.Publish.Timeout = patience
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	jobs := newJobs(t, 60, func(j *job.Job) {
		j.Inputs[0].Shape, j.Inputs[0].Data = []int64{1, 256}, make([]byte, 1024)
	})
	large := newJob(t, func(j *job.Job) { j.Inputs[0].Shape, j.Inputs[0].Data = []int64{1, 4096}, make([]byte, 16384) })
	jobs[30] = large
	server.Pause()
	tickets, errs, wait := publishAtOnce(t.Context(), q, jobs)
	server.Resume()
	wait()
	messages := map[uint64]bool{}
	for i := range jobs {
		if errs[i] != nil {
			t.Fatalf("job %d: %v", i, errs[i])
		}
		messages[tickets[i].Seq] = true
	}
	for _, d := range fetch(t, source(t, q, job.Interactive, "digits"), len(messages)) {
		if n := len(decode(t, d)); len(d.Envelope.Body) > 4096 && n != 1 {
			t.Errorf("message %d has %d bytes in %d jobs", d.Seq, len(d.Envelope.Body), n)
		}
	}
}

func TestACallerThatGivesUpHurtsNobodyElse(t *testing.T) {
	server := testserver.StartNATS(t, "")
	cfg := testConfig(server.URL())
	cfg.Publish.Timeout = patience
	q := connect(t, cfg)
	if err := q.EnsureStreams(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Pause()
	impatient, giveUp := context.WithCancel(t.Context())
	mine, others := newJobs(t, 20, nil), newJobs(t, 20, nil)
	_, myErrs, myWait := publishAtOnce(impatient, q, mine)
	tickets, errs, wait := publishAtOnce(t.Context(), q, others)
	giveUp()
	myWait()
	for i, err := range myErrs {
		// A call that began after giveUp never was sent.
		if !errors.Is(err, context.Canceled) {
			t.Errorf("job %d: expected the context's error, got %v", i, err)
		}
	}
	server.Resume()
	wait()
	for i := range others {
		if errs[i] != nil {
			t.Errorf("job %d of a patient caller: %v", i, errs[i])
		} else if _, err := q.Locate(t.Context(), tickets[i]); err != nil {
			t.Errorf("job %d of a patient caller: %v", i, err)
		}
	}
}

func TestTenantsDoNotWaitForEachOther(t *testing.T) {
	q := ready(t, nil)
	jobs := newJobs(t, 300, nil)
	for i, j := range jobs {
		j.Tenant = []string{"a", "b.c", "d"}[i%3]
		j.Lane = job.Lanes()[i%2]
	}
	tickets, errs, wait := publishAtOnce(t.Context(), q, jobs)
	wait()
	for i := range jobs {
		if errs[i] != nil {
			t.Fatalf("job %d: %v", i, errs[i])
		}
		if _, err := q.Locate(t.Context(), tickets[i]); err != nil {
			t.Errorf("job %d: %v", i, err)
		}
	}
	seen := map[job.ID]string{}
	for _, lane := range job.Lanes() {
		for _, s := range sources(t, q, lane, "digits") {
			drain(t, s, func(d *queue.Delivery) {
				for _, id := range decode(t, d) {
					seen[id] = d.Envelope.Tenant
				}
			})
		}
	}
	for i, j := range jobs {
		if seen[j.ID] != j.Tenant {
			t.Errorf("job %d of tenant %q was delivered as %q's", i, j.Tenant, seen[j.ID])
		}
	}
}

func TestPublishSheaf(t *testing.T) {
	q := ready(t, nil)
	jobs := newJobs(t, 1000, nil)
	jobs[500].Idempotent = true
	tickets, err := q.PublishSheaf(t.Context(), jobs)
	if err != nil || len(tickets) != len(jobs) {
		t.Fatalf("%d tickets, error %v", len(tickets), err)
	}
	// 7 full messages and one of 52, the one alone, 7 full ones and one of 51.
	const messages = 17
	var order []job.ID
	for _, d := range fetch(t, source(t, q, job.Interactive, "digits"), messages) {
		for place, id := range decode(t, d) {
			if ticket := tickets[len(order)]; ticket.ID != id || ticket.Seq != d.Seq || ticket.Index != place {
				t.Fatalf("job %d: ticket %v, found %v in message %d, place %d", len(order), ticket, id, d.Seq, place)
			}
			order = append(order, id)
		}
	}
	for i := range jobs {
		if order[i] != jobs[i].ID {
			t.Fatalf("job %d is out of order", i)
		}
	}
	if tickets[500].Index != 0 || tickets[501].Seq == tickets[500].Seq || tickets[499].Seq == tickets[500].Seq {
		t.Error("the job with an Idempotency-Key does not travel alone")
	}
}

func TestPublishSheafRefusesAMixture(t *testing.T) {
	q := ready(t, nil)
	for name, change := range map[string]func(*job.Job){
		"lane":   func(j *job.Job) { j.Lane = job.Bulk },
		"model":  func(j *job.Job) { j.Model = "other" },
		"tenant": func(j *job.Job) { j.Tenant = "other" },
		"no ID":  func(j *job.Job) { j.ID = job.ID{} },
		"bad":    func(j *job.Job) { j.Tenant = "a b" },
	} {
		jobs := newJobs(t, 3, nil)
		change(jobs[2])
		if tickets, err := q.PublishSheaf(t.Context(), jobs); err == nil || len(tickets) != 0 {
			t.Errorf("%s: expected an error before anything is published, got %d tickets", name, len(tickets))
		}
		if name != "lane" && name != "model" && name != "tenant" {
			if _, _, err := q.Publish(t.Context(), jobs[2]); err == nil {
				t.Errorf("%s: Publish takes it", name)
			}
		}
	}
	if tickets, err := q.PublishSheaf(t.Context(), nil); err != nil || tickets != nil {
		t.Errorf("no jobs at all: %v, %v", tickets, err)
	}
	fetchNone(t, source(t, q, job.Interactive, "digits"))
}
