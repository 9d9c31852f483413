// Package storetest is the conformance suite of result stores: what every implementation of resultstore.Store keeps.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/resultstore"
)

// Run runs the suite. open returns a store that takes at least 64 MiB and 10,000 records, and closes it with the test;
// the stores that it returns may share their records.
func Run(t *testing.T, open func(t *testing.T) resultstore.Store) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*testing.T, resultstore.Store)
	}{
		{"a free key is won and read back", winsFreeKey},
		{"the first record stays", firstStays},
		{"the same bytes again are ours", sameBytesAgain},
		{"one of fifty writers wins", oneWinner},
		{"an ID twice in one batch", twiceInOneBatch},
		{"outcomes and records keep their order", keepsOrder},
		{"a missing ID is nil", missingIsNil},
		{"what is deleted is free", deletes},
		{"empty batches", emptyBatches},
		{"a record expires", expires},
		{"a shorter time to live does not shorten the first", lostWriteLeavesTTL},
		{"any bytes", anyBytes},
		{"big records", bigRecords},
		{"the caller's bytes are its own", ownBytes},
		{"a faulty entry does not hurt its neighbours", faultyEntries},
		{"a context that is over", contexts},
		{"ping", pings},
		{"closed", closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Helper()
			c.test(t, open(t))
		})
	}
}

func newID(t *testing.T) job.ID {
	t.Helper()
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func record(text string) []byte { return []byte(text) }

// finish writes and expects no error.
func finish(t *testing.T, s resultstore.Store, entries ...resultstore.Entry) []resultstore.Outcome {
	t.Helper()
	outcomes, err := s.Finish(t.Context(), entries)
	if err != nil {
		t.Fatalf("Finish: %v", err)
	}
	if len(outcomes) != len(entries) {
		t.Fatalf("Finish of %d entries gave %d outcomes", len(entries), len(outcomes))
	}
	return outcomes
}

// expect compares what the store has with what it should have.
func expect(t *testing.T, s resultstore.Store, want [][]byte, ids ...job.ID) {
	t.Helper()
	got, err := s.Get(t.Context(), ids...)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("Get (-want +got):\n%s", diff)
	}
}

func wantOutcome(t *testing.T, what string, got, want resultstore.Outcome) {
	t.Helper()
	if got.Err != nil || want.Won != got.Won || !bytes.Equal(want.Existing, got.Existing) || (want.Existing == nil) != (got.Existing == nil) {
		t.Fatalf("%s: outcome %+v, want %+v", what, got, want)
	}
}

func winsFreeKey(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	wantOutcome(t, "write", finish(t, s, resultstore.Entry{ID: id, Record: record("a")})[0], resultstore.Outcome{Won: true})
	expect(t, s, [][]byte{record("a")}, id)
}

func firstStays(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	finish(t, s, resultstore.Entry{ID: id, Record: record("first")})
	for _, later := range []string{"second", "f", "first "} {
		got := finish(t, s, resultstore.Entry{ID: id, Record: record(later)})[0]
		wantOutcome(t, later, got, resultstore.Outcome{Existing: record("first")})
	}
	expect(t, s, [][]byte{record("first")}, id)
}

func sameBytesAgain(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	for range 3 {
		got := finish(t, s, resultstore.Entry{ID: id, Record: record("mine")})[0]
		wantOutcome(t, "write", got, resultstore.Outcome{Won: true})
	}
}

func oneWinner(t *testing.T, s resultstore.Store) {
	t.Helper()
	const writers, jobs = 50, 20
	ids := make([]job.ID, jobs)
	for i := range ids {
		ids[i] = newID(t)
	}
	outcomes := make([][]resultstore.Outcome, writers)
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			entries := make([]resultstore.Entry, jobs)
			for i := range entries {
				entries[i] = resultstore.Entry{ID: ids[i], Record: fmt.Appendf(nil, "writer %d job %d", w, i)}
			}
			outcomes[w], errs[w] = s.Finish(t.Context(), entries)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	final, err := s.Get(t.Context(), ids...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range ids {
		winners := 0
		for w := range writers {
			switch o := outcomes[w][i]; {
			case o.Won:
				winners++
				if want := fmt.Sprintf("writer %d job %d", w, i); string(final[i]) != want {
					t.Errorf("job %d: the store has %q, the winner wrote %q", i, final[i], want)
				}
			case !bytes.Equal(o.Existing, final[i]):
				t.Errorf("job %d: a loser saw %q, the store has %q", i, o.Existing, final[i])
			}
		}
		if winners != 1 {
			t.Errorf("job %d has %d winners, want 1", i, winners)
		}
	}
}

func twiceInOneBatch(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	got := finish(t, s,
		resultstore.Entry{ID: id, Record: record("one")},
		resultstore.Entry{ID: id, Record: record("two")},
		resultstore.Entry{ID: id, Record: record("one")},
	)
	wantOutcome(t, "first", got[0], resultstore.Outcome{Won: true})
	wantOutcome(t, "another", got[1], resultstore.Outcome{Existing: record("one")})
	wantOutcome(t, "the same again", got[2], resultstore.Outcome{Won: true})
	expect(t, s, [][]byte{record("one"), record("one")}, id, id)
}

func keepsOrder(t *testing.T, s resultstore.Store) {
	t.Helper()
	const n = 300
	ids := make([]job.ID, n)
	entries := make([]resultstore.Entry, n)
	want := make([][]byte, n)
	for i := range ids {
		ids[i], want[i] = newID(t), fmt.Appendf(nil, "record %d", i)
		entries[i] = resultstore.Entry{ID: ids[i], Record: want[i]}
		if i%3 == 0 { // taken by somebody else before
			want[i] = fmt.Appendf(nil, "earlier %d", i)
			finish(t, s, resultstore.Entry{ID: ids[i], Record: want[i]})
		}
	}
	for i, o := range finish(t, s, entries...) {
		if i%3 == 0 {
			wantOutcome(t, ids[i].String(), o, resultstore.Outcome{Existing: want[i]})
		} else {
			wantOutcome(t, ids[i].String(), o, resultstore.Outcome{Won: true})
		}
	}
	expect(t, s, want, ids...)
}

func missingIsNil(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	finish(t, s, resultstore.Entry{ID: id, Record: record("here")})
	expect(t, s, [][]byte{nil}, newID(t))
	expect(t, s, [][]byte{nil, record("here"), nil}, newID(t), id, newID(t))
}

func deletes(t *testing.T, s resultstore.Store) {
	t.Helper()
	a, b, stays := newID(t), newID(t), newID(t)
	finish(t, s, resultstore.Entry{ID: a, Record: record("a"), TTL: 100 * time.Millisecond}, resultstore.Entry{ID: b, Record: record("b")}, resultstore.Entry{ID: stays, Record: record("stays")})
	if err := s.Delete(t.Context(), a, newID(t), b); err != nil {
		t.Fatalf("Delete: %v", err)
	}
	if err := s.Delete(t.Context()); err != nil {
		t.Fatalf("Delete of nothing: %v", err)
	}
	expect(t, s, [][]byte{nil, nil, record("stays")}, a, b, stays)
	short := newID(t)
	outcomes := finish(t, s, resultstore.Entry{ID: a, Record: record("again")}, resultstore.Entry{ID: short, Record: record("short"), TTL: 200 * time.Millisecond})
	wantOutcome(t, "a free key again", outcomes[0], resultstore.Outcome{Won: true})
	await(t, s, short, nil) // by then the time of the first record of a is over
	expect(t, s, [][]byte{record("again")}, a)
}

func emptyBatches(t *testing.T, s resultstore.Store) {
	t.Helper()
	if outcomes := finish(t, s); len(outcomes) != 0 {
		t.Errorf("Finish of nothing gave %d outcomes", len(outcomes))
	}
	records, err := s.Get(t.Context())
	if err != nil || len(records) != 0 {
		t.Errorf("Get of nothing gave %d records, %v", len(records), err)
	}
}

// await looks until the record is as wanted.
func await(t *testing.T, s resultstore.Store, id job.ID, want []byte) {
	t.Helper()
	pace := time.NewTicker(5 * time.Millisecond)
	defer pace.Stop()
	for deadline := time.Now().Add(30 * time.Second); ; <-pace.C {
		got, err := s.Get(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(got[0], want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for the record %q, still got %q", want, got[0])
		}
	}
}

func expires(t *testing.T, s resultstore.Store) {
	t.Helper()
	brief, fraction, long, usual := newID(t), newID(t), newID(t), newID(t)
	finish(t, s,
		resultstore.Entry{ID: brief, Record: record("brief"), TTL: 50 * time.Millisecond},
		resultstore.Entry{ID: fraction, Record: record("fraction"), TTL: 10 * time.Microsecond}, // not 0, which is refused or for ever
		resultstore.Entry{ID: long, Record: record("long"), TTL: time.Hour},
		resultstore.Entry{ID: usual, Record: record("usual")},
	)
	await(t, s, brief, nil)
	await(t, s, fraction, nil)
	expect(t, s, [][]byte{record("long"), record("usual")}, long, usual)
	// The key is free again.
	got := finish(t, s, resultstore.Entry{ID: brief, Record: record("again")})[0]
	wantOutcome(t, "after expiry", got, resultstore.Outcome{Won: true})
}

func lostWriteLeavesTTL(t *testing.T, s resultstore.Store) {
	t.Helper()
	id, probe := newID(t), newID(t)
	finish(t, s, resultstore.Entry{ID: id, Record: record("kept"), TTL: time.Hour})
	finish(t, s, resultstore.Entry{ID: id, Record: record("lost"), TTL: 20 * time.Millisecond})
	finish(t, s, resultstore.Entry{ID: id, Record: record("kept"), TTL: 20 * time.Millisecond})
	finish(t, s, resultstore.Entry{ID: probe, Record: record("probe"), TTL: 40 * time.Millisecond})
	await(t, s, probe, nil) // by now the others would be gone
	expect(t, s, [][]byte{record("kept")}, id)
}

func anyBytes(t *testing.T, s resultstore.Store) {
	t.Helper()
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for _, r := range [][]byte{all, {0}, record("\r\n"), record("$-1\r\n"), record("nil"), record("OK")} {
		id := newID(t)
		wantOutcome(t, "write", finish(t, s, resultstore.Entry{ID: id, Record: r})[0], resultstore.Outcome{Won: true})
		expect(t, s, [][]byte{r}, id)
		wantOutcome(t, "repeat", finish(t, s, resultstore.Entry{ID: id, Record: r})[0], resultstore.Outcome{Won: true})
		lost := finish(t, s, resultstore.Entry{ID: id, Record: append(bytes.Clone(r), 'x')})[0]
		wantOutcome(t, "another", lost, resultstore.Outcome{Existing: r})
	}
}

func bigRecords(t *testing.T, s resultstore.Store) {
	t.Helper()
	small, big := newID(t), newID(t)
	r := bytes.Repeat([]byte{0xa5, '\r', '\n', 0}, 4<<20) // 16 MiB
	got := finish(t, s, resultstore.Entry{ID: big, Record: r}, resultstore.Entry{ID: small, Record: record("small")})
	wantOutcome(t, "big", got[0], resultstore.Outcome{Won: true})
	wantOutcome(t, "small", got[1], resultstore.Outcome{Won: true})
	other := bytes.Clone(r)
	other[len(other)-1] = 1
	wantOutcome(t, "another big", finish(t, s, resultstore.Entry{ID: big, Record: other})[0], resultstore.Outcome{Existing: r})
	records, err := s.Get(t.Context(), big, small)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(records[0], r) || !bytes.Equal(records[1], record("small")) {
		t.Fatal("the records came back changed")
	}
}

func ownBytes(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	mine := record("as written")
	finish(t, s, resultstore.Entry{ID: id, Record: mine})
	copy(mine, "overwritten")
	lost := finish(t, s, resultstore.Entry{ID: id, Record: record("late")})[0]
	clear(lost.Existing)
	got, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	clear(got[0])
	expect(t, s, [][]byte{record("as written")}, id)
}

func faultyEntries(t *testing.T, s resultstore.Store) {
	t.Helper()
	ids := []job.ID{newID(t), newID(t), newID(t), newID(t)}
	outcomes, err := s.Finish(t.Context(), []resultstore.Entry{
		{ID: ids[0], Record: record("good")},
		{ID: ids[1]},
		{ID: ids[2], Record: record("negative"), TTL: -time.Second},
		{ID: ids[3], Record: record("good too")},
	})
	if err == nil || errors.Is(err, resultstore.ErrUnavailable) {
		t.Errorf("Finish: %v, want an error that another try does not cure", err)
	}
	if len(outcomes) != len(ids) {
		t.Fatalf("%d outcomes, want %d", len(outcomes), len(ids))
	}
	for _, i := range []int{1, 2} {
		if outcomes[i].Err == nil || outcomes[i].Won {
			t.Errorf("entry %d: outcome %+v, want an error", i, outcomes[i])
		}
	}
	wantOutcome(t, "first", outcomes[0], resultstore.Outcome{Won: true})
	wantOutcome(t, "last", outcomes[3], resultstore.Outcome{Won: true})
	expect(t, s, [][]byte{record("good"), nil, nil, record("good too")}, ids...)
}

func contexts(t *testing.T, s resultstore.Store) {
	t.Helper()
	id := newID(t)
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	for _, c := range []struct {
		name        string
		ctx         context.Context
		want        error
		unavailable bool
	}{{"canceled", canceled, context.Canceled, false}, {"too late", late, context.DeadlineExceeded, true}} {
		outcomes, err := s.Finish(c.ctx, []resultstore.Entry{{ID: id, Record: record("never")}})
		_, getErr := s.Get(c.ctx, id)
		for what, err := range map[string]error{"Finish": err, "Get": getErr, "Ping": s.Ping(c.ctx)} {
			if !errors.Is(err, c.want) || errors.Is(err, resultstore.ErrUnavailable) != c.unavailable {
				t.Errorf("%s, %s: %v", c.name, what, err)
			}
		}
		if len(outcomes) != 1 || !errors.Is(outcomes[0].Err, c.want) {
			t.Errorf("%s: outcomes %+v, want one with the error", c.name, outcomes)
		}
	}
	expect(t, s, [][]byte{nil}, id)
}

func pings(t *testing.T, s resultstore.Store) {
	t.Helper()
	for range 2 {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatalf("Ping: %v", err)
		}
	}
}

func closed(t *testing.T, s resultstore.Store) {
	t.Helper()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	id := newID(t)
	outcomes, err := s.Finish(t.Context(), []resultstore.Entry{{ID: id, Record: record("late")}})
	_, getErr := s.Get(t.Context(), id)
	for what, err := range map[string]error{"Finish": err, "Get": getErr, "Delete": s.Delete(t.Context(), id), "Ping": s.Ping(t.Context())} {
		if !errors.Is(err, resultstore.ErrClosed) {
			t.Errorf("%s: %v, want ErrClosed", what, err)
		}
	}
	if len(outcomes) != 1 || !errors.Is(outcomes[0].Err, resultstore.ErrClosed) {
		t.Errorf("outcomes %+v, want one with ErrClosed", outcomes)
	}
}
