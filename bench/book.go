package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

const (
	// overdue is how long a job may be unfinished before its record is looked for: its notice may be lost.
	overdue = 3 * time.Second
	// strangerLife is how long a notice of an unknown job is kept, at least: it can come before its submit returns.
	strangerLife = 2 * time.Second
)

// entry is one accepted job.
type entry struct {
	due    time.Time // when it was to arrive: latency counts from here
	begun  time.Time // when this program began to submit it, if that is of interest
	sample int
	class  int
}

// tally is what became of the jobs of one class.
type tally struct {
	accepted, finished int
	latency            times
	served             times // the same from when the submit was begun
	// share is the part of the finished jobs whose result is compared: every share-th. 1 is all.
	share, skipped int
}

// finding is a finished job that is still to be compared.
type finding struct {
	id     job.ID
	sample int
}

// book knows every job of a run from its acceptance to the comparison of its result. Classes are the caller's: lanes or
// tenants.
type book struct {
	load  *workload
	store resultstore.Store

	mu       sync.Mutex
	open     map[job.ID]entry
	early    map[job.ID]time.Time // notices of unknown jobs
	earlier  map[job.ID]time.Time // those of before the last turn
	turned   time.Time
	classes  []tally
	findings []finding
	verdict  verdict
}

// verdict is what was found against the promise.
type verdict struct {
	Accepted    int      `json:"accepted"`
	Finished    int      `json:"finished"`
	Compared    int      `json:"compared"`
	Lost        int      `json:"lost"`
	Wrong       int      `json:"wrong"`
	LostNotices int      `json:"lost_notices"`
	Evidence    []string `json:"evidence,omitempty"`
}

func newBook(load *workload, store resultstore.Store, classes int) *book {
	b := &book{
		load: load, store: store, open: make(map[job.ID]entry), early: make(map[job.ID]time.Time),
		classes: make([]tally, classes),
	}
	for i := range b.classes {
		b.classes[i].share = 1
	}
	return b
}

// accept notes an accepted job.
func (b *book) accept(id job.ID, e entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.classes[e.class].accepted++
	b.verdict.Accepted++
	for _, known := range []map[job.ID]time.Time{b.early, b.earlier} {
		if at, ok := known[id]; ok {
			delete(known, id)
			b.finish(id, e, at)
			return
		}
	}
	b.open[id] = e
}

// done notes a notice. It may be passed to queue.OnDone.
func (b *book) done(ids []job.ID) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.turned) > strangerLife {
		// Others have jobs too, and their notices must not be kept for ever.
		b.early, b.earlier, b.turned = make(map[job.ID]time.Time), b.early, now
	}
	for _, id := range ids {
		if e, ok := b.open[id]; ok {
			delete(b.open, id)
			b.finish(id, e, now)
		} else {
			b.early[id] = now
		}
	}
}

func (b *book) finish(id job.ID, e entry, at time.Time) {
	t := &b.classes[e.class]
	t.finished++
	t.latency.add(max(0, at.Sub(e.due)))
	if !e.begun.IsZero() {
		t.served.add(max(0, at.Sub(e.begun)))
	}
	b.verdict.Finished++
	if t.skipped++; t.skipped >= t.share {
		t.skipped = 0
		b.findings = append(b.findings, finding{id, e.sample})
	}
}

// outstanding is how many accepted jobs of a class are not known to be finished.
func (b *book) outstanding(class int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.classes[class].accepted - b.classes[class].finished
}

// finished is how many jobs of a class are known to be finished.
func (b *book) finished(class int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.classes[class].finished
}

// takeLatency returns the latencies of a class since the last call.
func (b *book) takeLatency(class int) times {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.classes[class].latency
	b.classes[class].latency = times{}
	return t
}

// takeServed returns the times since the submits since the last call.
func (b *book) takeServed(class int) times {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.classes[class].served
	b.classes[class].served = times{}
	return t
}

func (b *book) takeFindings() []finding {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.findings
	b.findings = nil
	return f
}

func (b *book) putBack(list []finding) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.findings = append(b.findings, list...)
}

// unfinished lists the jobs that were due before a time and are not known to be finished.
func (b *book) unfinished(before time.Time) []job.ID {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []job.ID
	for id, e := range b.open {
		if e.due.Before(before) {
			ids = append(ids, id)
		}
	}
	return ids
}

// verify compares results and looks for those whose notice was lost, until ctx ends.
func (b *book) verify(ctx context.Context) error {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	swept, failures := time.Now(), 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := b.compare(ctx)
		if err == nil && time.Since(swept) > overdue {
			swept = time.Now()
			err = b.sweep(ctx, overdue)
		}
		// A long run is not to end for one slow answer.
		if failures++; err == nil {
			failures = 0
		}
		if failures > patientFailures && ctx.Err() == nil {
			return err
		}
	}
}

// patientFailures is how many times in a row something may fail that is tried again soon.
const patientFailures = 10

// compare reads the records of the finished jobs.
func (b *book) compare(ctx context.Context) error {
	list := b.takeFindings()
	ids := make([]job.ID, 0, verifyChunk)
	for from := 0; from < len(list); from += verifyChunk {
		part := list[from:min(from+verifyChunk, len(list))]
		ids = ids[:0]
		for i := range part {
			ids = append(ids, part[i].id)
		}
		records, err := b.store.Get(ctx, ids...)
		if err != nil {
			b.putBack(list[from:])
			return fmt.Errorf("read the records: %w", err)
		}
		for i, record := range records {
			b.judge(part[i], record)
		}
	}
	return nil
}

const maxEvidence = 10

func (b *book) judge(f finding, record []byte) {
	err := b.load.check(f.sample, f.id, record)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.verdict.Compared++
	if err == nil {
		return
	}
	b.verdict.Wrong++
	if len(b.verdict.Evidence) < maxEvidence {
		b.verdict.Evidence = append(b.verdict.Evidence, fmt.Sprintf("job %s: %v", f.id, err))
	}
}

// sweep looks for records whose notice was lost.
func (b *book) sweep(ctx context.Context, age time.Duration) error {
	ids := b.unfinished(time.Now().Add(-age))
	for from := 0; from < len(ids); from += verifyChunk {
		part := ids[from:min(from+verifyChunk, len(ids))]
		records, err := b.store.Get(ctx, part...)
		if err != nil {
			return fmt.Errorf("look for records: %w", err)
		}
		b.found(part, records)
	}
	return nil
}

func (b *book) found(ids []job.ID, records [][]byte) {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, id := range ids {
		// The notice may have come while the record was read.
		if e, ok := b.open[id]; ok && records[i] != nil {
			delete(b.open, id)
			b.verdict.LostNotices++
			b.finish(id, e, now)
		}
	}
}

// settle waits until every accepted job is finished and compared, as long as there is progress within patience. What is
// then missing is lost.
func (b *book) settle(ctx context.Context, patience time.Duration) error {
	last, since := -1, time.Now()
	for {
		if err := b.compare(ctx); err != nil {
			return err
		}
		b.mu.Lock()
		left := len(b.open)
		b.mu.Unlock()
		switch {
		case left == 0:
			return b.compare(ctx)
		case left != last:
			last, since = left, time.Now()
		case time.Since(since) > patience:
			b.lose()
			return nil
		case time.Since(since) > overdue:
			if err := b.sweep(ctx, 0); err != nil {
				return err
			}
		}
		if !rest(ctx, 20*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// lose gives up what is unfinished.
func (b *book) lose() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.open {
		b.verdict.Lost++
		if len(b.verdict.Evidence) < maxEvidence {
			b.verdict.Evidence = append(b.verdict.Evidence, fmt.Sprintf("job %s has no record", id))
		}
	}
	clear(b.open)
}

// result is the verdict so far.
func (b *book) result() verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verdict
}

// failure is an error if a job was lost or wrong.
func (v *verdict) failure() error {
	if v.Lost == 0 && v.Wrong == 0 {
		return nil
	}
	return fmt.Errorf("%d jobs lost, %d wrong: %v", v.Lost, v.Wrong, v.Evidence)
}

// rest waits. false if ctx ended first.
func rest(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
