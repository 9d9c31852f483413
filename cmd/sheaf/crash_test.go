package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/failpoint"
	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/producer"
)

// crash is a row of the crash table: what a process leaves that is killed right after the step.
type crash struct {
	point failpoint.Point
	test  func(h *hazard, armed []string)
}

// crashTable has every point of package failpoint.
var crashTable = []crash{
	{failpoint.Validated, crashAtSubmit(0)},
	{failpoint.Published, crashAtSubmit(1)},
	{failpoint.Answered, crashAtSubmit(1)},
	{failpoint.Delivered, crashOfWorker(false)},
	{failpoint.Checked, crashOfWorker(false)},
	{failpoint.Inferred, crashOfWorker(false)},
	{failpoint.Recorded, crashOfWorker(true)},
	{failpoint.Told, crashOfWorker(true)},
	{failpoint.Acked, crashOfWorker(true)},
	{failpoint.CancelRecorded, crashAtCancel(1)},
	{failpoint.CancelTold, crashAtCancel(1)},
	{failpoint.CancelRemoved, crashAtCancel(0)},
	{failpoint.WebhookQueued, crashOfHookedWorker},
	{failpoint.WebhookSent, crashOfSender(2)},
	{failpoint.WebhookSettled, crashOfSender(1)},
	{failpoint.DeadCopied, crashAtBurial(false)},
	{failpoint.DeadRecorded, crashAtBurial(true)},
	{failpoint.DeadSettled, crashAtBurial(true)},
}

// Each row of the crash table of docs/state-machine.md: the process that takes the step is killed right after it, as by
// kill -9, and what the table says of the rest is true.
func TestCrashTable(t *testing.T) {
	t.Parallel()
	var points []failpoint.Point
	for _, row := range crashTable {
		points = append(points, row.point)
		t.Run(string(row.point), func(t *testing.T) {
			t.Parallel()
			row.test(newHazard(t), armedAt(row.point, 1))
		})
	}
	if !slices.Equal(points, failpoint.Points()) {
		t.Errorf("the table has %q, there are %q", points, failpoint.Points())
	}
}

// armedAt is the environment of a process that dies when it reaches the point for the n-th time.
func armedAt(point failpoint.Point, n int) []string {
	return []string{fmt.Sprintf("%s=%s:%d", stopAfter, point, n)}
}

// attempt sends a request to a process that may die of it. It returns 0 if there was no answer.
func attempt(t testing.TB, method, url, key string, body string) (code int, answer []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return 0, nil // it died while it answered
	}
	return resp.StatusCode, text.Bytes()
}

// crashAtSubmit kills a shim while it takes a job; stored is how many messages it then has published. The client submits
// again at another shim, with the same key: it is the same job, and is computed once.
func crashAtSubmit(stored int) func(*hazard, []string) {
	return func(h *hazard, armed []string) {
		t := h.t
		h.announceModels(t)
		dying, dyingURL := h.api(t, armed)
		_, url := h.api(t, nil)
		const key, body = "key of one", `{"input":[0,20]}`

		if code, answer := attempt(t, http.MethodPost, dyingURL+"/v1/models/slow/jobs", key, body); code != 0 && stored == 0 {
			t.Errorf("the killed shim answered %d: %s", code, answer)
		}
		dying.awaitDeath()
		if n := h.stream(t, job.Interactive.String()).messages; n != stored {
			t.Errorf("%d messages are stored, expected %d", n, stored)
		}
		code, answer := attempt(t, http.MethodPost, url+"/v1/models/slow/jobs", key, body)
		if code != http.StatusAccepted {
			t.Fatalf("the second submit is answered %d: %s", code, answer)
		}
		ticket, err := job.ParseTicket(decodeJob(t, answer).ID)
		if err != nil {
			t.Fatal(err)
		}
		if want := job.DerivedID(job.DefaultTenant, key); ticket.ID != want {
			t.Errorf("the second submit is job %s, expected %s", ticket.ID, want)
		}
		if n := h.stream(t, job.Interactive.String()).messages; n != 1 {
			t.Errorf("%d messages are stored after the second submit, expected 1", n)
		}
		w := h.worker(t, nil)
		_, answer = get(t, url+"/v1/jobs/"+ticket.String()+"?wait=60s")
		if err := isSlowAnswer(h.record(t, ticket.ID), 20); err != nil {
			t.Errorf("%v: %s", err, answer)
		}
		h.awaitEmpty(t)
		if n := w.computed(t); n != 1 {
			t.Errorf("%d rows were computed, expected 1", n)
		}
	}
}

// A ticket that a shim has given out is served by any other when that one is gone.
func TestTicketOutlivesItsShim(t *testing.T) {
	t.Parallel()
	h := newHazard(t)
	h.announceModels(t)
	dying, dyingURL := h.api(t, armedAt(failpoint.Answered, 2))
	_, url := h.api(t, nil)
	code, answer := attempt(t, http.MethodPost, dyingURL+"/v1/models/slow/jobs", "", `{"input":[0,1]}`)
	if code != http.StatusAccepted {
		t.Fatalf("submit is answered %d: %s", code, answer)
	}
	id := decodeJob(t, answer).ID
	attempt(t, http.MethodPost, dyingURL+"/v1/models/slow/jobs", "", `{"input":[0,2]}`)
	dying.awaitDeath()
	if code, answer := get(t, url+"/v1/jobs/"+id); code != http.StatusOK || decodeJob(t, answer).Status != "queued" {
		t.Errorf("the other shim answers %d: %s", code, answer)
	}
	h.worker(t, nil)
	if code, answer := get(t, url+"/v1/jobs/"+id+"?wait=60s"); code != http.StatusOK || decodeJob(t, answer).Status != "succeeded" {
		t.Errorf("the other shim answers %d: %s", code, answer)
	}
	h.awaitEmpty(t)
}

// crashOfWorker kills a worker on the way of some jobs. Another one finishes them, and does not touch, nor compute again,
// those that have their record; recorded says that there must be some.
func crashOfWorker(recorded bool) func(*hazard, []string) {
	return func(h *hazard, armed []string) {
		t := h.t
		h.announceModels(t)
		p := h.producer(t)
		const company, alone = 20, 3
		requests := make([]producer.Request, company+alone)
		for i := range requests {
			requests[i] = slowJob(0, float64(i))
		}
		tickets := sheaf(t, p, requests[:company]...)
		for _, r := range requests[company:] {
			tickets = append(tickets, single(t, p, r))
		}
		if n := h.stream(t, job.Interactive.String()).messages; n != 1+alone {
			t.Fatalf("the jobs are in %d messages, expected %d", n, 1+alone)
		}
		ids := idsOf(tickets)

		h.launchWorker(t, armed).awaitDeath()
		before := h.raw(t, ids...)
		stand := 0
		for _, record := range before {
			if record != nil {
				stand++
			}
		}
		if (stand > 0) != recorded {
			t.Errorf("%d records were written before the crash", stand)
		}
		w := h.worker(t, nil)
		redelivered := 0
		for i, id := range ids {
			r := h.record(t, id)
			if err := isSlowAnswer(r, float64(i)); err != nil {
				t.Errorf("job %d: %v", i, err)
			}
			if before[i] != nil && !bytes.Equal(h.raw(t, id)[0], before[i]) {
				t.Errorf("the record of job %d was written twice", i)
			}
			if before[i] == nil && r.Attempts > 1 {
				redelivered++
			}
		}
		if redelivered == 0 && !recorded {
			t.Error("no record tells of a second attempt")
		}
		h.awaitEmpty(t)
		if n := w.computed(t); n != len(ids)-stand {
			t.Errorf("%d rows were computed after the crash, %d of %d jobs had their record", n, stand, len(ids))
		}
		if n := h.stream(t, "dead").messages; n != 0 {
			t.Errorf("%d dead letters", n)
		}
	}
}

// crashAtCancel kills a shim while it cancels a job; left is how many messages it then has left of the job and of its
// neighbour, less the neighbour. The job is canceled, and stays so when a worker comes.
func crashAtCancel(left int) func(*hazard, []string) {
	return func(h *hazard, armed []string) {
		t := h.t
		h.announceModels(t)
		dying, dyingURL := h.api(t, armed)
		_, url := h.api(t, nil)
		p := h.producer(t)
		doomed, kept := single(t, p, slowJob(0, 1)), single(t, p, slowJob(0, 2))

		if code, answer := attempt(t, http.MethodDelete, dyingURL+"/v1/jobs/"+doomed.String(), "", ""); code != 0 {
			t.Errorf("the killed shim answered %d: %s", code, answer)
		}
		dying.awaitDeath()
		if n := h.stream(t, job.Interactive.String()).messages; n != 1+left {
			t.Errorf("%d messages are left, expected %d", n, 1+left)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			code, answer := attempt(t, method, url+"/v1/jobs/"+doomed.String(), "", "")
			if code != http.StatusOK || decodeJob(t, answer).Status != "canceled" {
				t.Errorf("%s at another shim is answered %d: %s", method, code, answer)
			}
		}
		before := h.raw(t, doomed.ID)[0]
		w := h.worker(t, nil)
		if err := isSlowAnswer(h.record(t, kept.ID), 2); err != nil {
			t.Errorf("the neighbour: %v", err)
		}
		h.awaitEmpty(t)
		if after := h.raw(t, doomed.ID)[0]; !bytes.Equal(before, after) {
			t.Error("the canceled record was written over")
		}
		// What a lost notice and a message left behind may cost is one run, whose result is too late.
		late := int(metric(t, w.ops(), "sheaf_worker_late_results_total", ""))
		if n := w.computed(t); n > 1+left || n-1 != late {
			t.Errorf("%d rows were computed, %d in vain; expected 1, and in vain at most %d", n, late, left)
		}
	}
}

// crashAtBurial kills a worker that puts a job among the dead letters; recorded says that it has its record by then.
// The job has one failed record and one dead letter when another worker has gone over it again.
func crashAtBurial(recorded bool) func(*hazard, []string) {
	return func(h *hazard, armed []string) {
		t := h.t
		h.announceModels(t)
		p := h.producer(t)
		// No producer lets pass what the model does not take; anybody who speaks NATS can send it.
		id, err := job.NewID()
		if err != nil {
			t.Fatal(err)
		}
		testserver.Publish(t, h.nats, "sheaf.interactive.slow.default",
			map[string]string{job.HeaderID: id.String(), job.HeaderContentType: job.ContentTypeJSON},
			[]byte(inputs("x", "FP32", "[1,3]", "[1,2,3]")))
		neighbours := idsOf(sheaf(t, p, slowJob(0, 0), slowJob(0, 1), slowJob(0, 2)))

		h.launchWorker(t, armed).awaitDeath()
		if n := h.stream(t, "dead").messages; n != 1 {
			t.Errorf("%d dead letters before the crash, expected 1", n)
		}
		before := h.raw(t, id)[0]
		if (before != nil) != recorded {
			t.Errorf("a record was written before the crash: %t, expected %t", before != nil, recorded)
		}
		h.worker(t, nil)
		if r := h.record(t, id); r.State != job.Failed || r.Error == nil || r.Error.Code != job.CodeInvalid {
			t.Errorf("the job %s; expected that it failed, as invalid", outcome(r))
		}
		for i, id := range neighbours {
			if err := isSlowAnswer(h.record(t, id), float64(i)); err != nil {
				t.Errorf("neighbour %d: %v", i, err)
			}
		}
		h.awaitEmpty(t)
		if after := h.raw(t, id)[0]; before != nil && !bytes.Equal(before, after) {
			t.Error("the failed record was written twice")
		}
		if got := h.deadJobs(t); !slices.Equal(got, []job.ID{id}) {
			t.Errorf("the dead letters are of the jobs %v in the end, expected one of %v", got, id)
		}
	}
}

// launchWorker starts a worker that may die before it is up.
func (h *hazard) launchWorker(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	return launch(t, env, h.workerArgs(args...)...)
}

// asSubmitter makes TestCrashedProducer be a program that submits one job with package producer and says what came of
// it. Its value is the URL of NATS.
const asSubmitter = "SHEAF_TEST_AS_SUBMITTER"

// A program that submits with package producer is killed after each of its steps and run again, with the same key: it
// is the same job.
func TestCrashedProducer(t *testing.T) {
	if url := os.Getenv(asSubmitter); url != "" {
		submitOnce(t, url)
		return
	}
	t.Parallel()
	for _, c := range []struct {
		point  failpoint.Point
		stored int
	}{{failpoint.Validated, 0}, {failpoint.Published, 1}} {
		t.Run(string(c.point), func(t *testing.T) {
			t.Parallel()
			h := newHazard(t)
			h.announceModels(t)
			if text, err := h.runSubmitter(t, armedAt(c.point, 1)); !diedByKill(err) {
				t.Fatalf("the program was to be killed: %v\n%s", err, text)
			}
			if n := h.stream(t, job.Interactive.String()).messages; n != c.stored {
				t.Errorf("%d messages are stored, expected %d", n, c.stored)
			}
			text, err := h.runSubmitter(t, nil)
			want := fmt.Sprintf("submitted %s, duplicate %t", job.DerivedID(job.DefaultTenant, submitterKey), c.stored == 1)
			if err != nil || !strings.Contains(text, want) {
				t.Errorf("run again, the program says (%v) %s; expected %q", err, text, want)
			}
			if n := h.stream(t, job.Interactive.String()).messages; n != 1 {
				t.Errorf("%d messages are stored in the end, expected 1", n)
			}
			w := h.worker(t, nil)
			if err := isSlowAnswer(h.record(t, job.DerivedID(job.DefaultTenant, submitterKey)), 5); err != nil {
				t.Error(err)
			}
			h.awaitEmpty(t)
			if n := w.computed(t); n != 1 {
				t.Errorf("%d rows were computed, expected 1", n)
			}
		})
	}
}

const submitterKey = "key of a program"

func (h *hazard) runSubmitter(t *testing.T, env []string) (text string, err error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrashedProducer$", "-test.v") //nolint:gosec // the test binary itself
	cmd.Env = append(append(os.Environ(), asSubmitter+"="+h.nats), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func diedByKill(err error) bool {
	exit, ok := errors.AsType[*exec.ExitError](err)
	return ok && exit.ExitCode() == -1 // by a signal
}

func submitOnce(t *testing.T, url string) {
	t.Helper()
	cfg := producer.DefaultConfig()
	cfg.Queue.URL = url
	if at := os.Getenv(stopAfter); at != "" {
		cfg.Reach = killAfter(at)
	}
	p, err := producer.Connect(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	r := slowJob(0, 5)
	r.IdempotencyKey = submitterKey
	s, err := p.Submit(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("submitted %s, duplicate %t", s.Ticket.ID, s.Duplicate)
}
