package resultstore_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/resultstore/storetest"
)

func newMemory(t *testing.T, cfg resultstore.MemoryConfig) *resultstore.Memory {
	t.Helper()
	m, err := resultstore.NewMemory(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(t *testing.T) resultstore.Store {
		t.Helper()
		return newMemory(t, resultstore.DefaultMemoryConfig())
	})
}

func TestMemoryExpiresToTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := resultstore.DefaultMemoryConfig()
		cfg.DefaultTTL = time.Minute
		m := newMemory(t, cfg)
		usual, long, brief := newID(t), newID(t), newID(t)
		entries := []resultstore.Entry{
			{ID: long, Record: []byte("long"), TTL: time.Hour},
			{ID: brief, Record: []byte("brief"), TTL: time.Second},
			{ID: usual, Record: []byte("usual")},
		}
		if _, err := m.Finish(t.Context(), entries); err != nil {
			t.Fatal(err)
		}
		for _, c := range []struct {
			wait               time.Duration
			brief, usual, long bool
		}{
			{time.Second - 1, true, true, true},
			{1, false, true, true},
			{59*time.Second - 1, false, true, true},
			{1, false, false, true},
			{59*time.Minute - 1, false, false, true},
			{1, false, false, false},
		} {
			<-time.After(c.wait)
			got, err := m.Get(t.Context(), brief, usual, long)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range []bool{c.brief, c.usual, c.long} {
				if (got[i] != nil) != want {
					t.Errorf("after %v more, record %d: %q, want it there: %v", c.wait, i, got[i], want)
				}
			}
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  resultstore.MemoryConfig
	}{
		{"records", resultstore.MemoryConfig{DefaultTTL: time.Minute, MaxEntries: 2, MaxBytes: 1000}},
		{"bytes", resultstore.MemoryConfig{DefaultTTL: time.Minute, MaxEntries: 1000, MaxBytes: 10}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory(t, c.cfg)
				first, second, third := newID(t), newID(t), newID(t)
				mustWin(t, m, first, "12345")
				mustWin(t, m, second, "12345")
				_, err := put(t.Context(), t, m, third, "12345")
				wantUnavailable(t, "a third", err, "full")
				wantUnavailable(t, "Ping", m.Ping(t.Context()), "full")
				// What is there stays, and is known.
				mustHave(t, m, first, "12345")
				mustWin(t, m, first, "12345")
				mustLose(t, m, second, "other", "12345")

				<-time.After(time.Minute)
				mustWin(t, m, third, "12345")
				mustHave(t, m, third, "12345")
				if err := m.Ping(t.Context()); err != nil {
					t.Errorf("Ping: %v", err)
				}
				mustWin(t, m, first, "67890")
			})
		})
	}
}

func TestMemoryManyTimesToLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 500
		m := newMemory(t, resultstore.MemoryConfig{DefaultTTL: time.Minute, MaxEntries: n, MaxBytes: 1 << 20})
		write := func() {
			t.Helper()
			entries := make([]resultstore.Entry, n)
			for i := range entries {
				entries[i] = resultstore.Entry{ID: newID(t), Record: []byte("x"), TTL: time.Duration(i*7919%n+1) * time.Second}
			}
			if _, err := m.Finish(t.Context(), entries); err != nil {
				t.Fatal(err)
			}
			for gone := range n { // a second later one record is gone, and there is room for one
				if _, err := put(t.Context(), t, m, newID(t), "no room"); err == nil {
					t.Fatalf("with %d gone there is room", gone)
				}
				<-time.After(time.Second)
				o, err := m.Finish(t.Context(), []resultstore.Entry{{ID: newID(t), Record: []byte("y"), TTL: time.Hour}})
				if err != nil || !o[0].Won {
					t.Fatalf("after %d s there is no room: %v", gone+1, err)
				}
			}
		}
		write()
		<-time.After(time.Hour)
		write()
	})
}

func TestMemoryConfig(t *testing.T) {
	cfg := resultstore.MemoryConfig{}
	_, err := resultstore.NewMemory(cfg)
	if err == nil {
		t.Fatal("NewMemory took no limits")
	}
	for _, want := range []string{"time to live", "maximum of records", "maximum bytes"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want it to name %q", err, want)
		}
	}
}

func TestRecordTooLarge(t *testing.T) {
	m := newMemory(t, resultstore.DefaultMemoryConfig())
	outcomes, err := m.Finish(t.Context(), []resultstore.Entry{
		{ID: newID(t), Record: make([]byte, resultstore.MaxRecordBytes+1)}, {ID: newID(t), Record: []byte("x")},
	})
	if err == nil || !strings.Contains(err.Error(), "512 MiB") || outcomes[0].Err == nil || !outcomes[1].Won {
		t.Errorf("%v, %v; want the large record refused and the other written", outcomes[1], err)
	}
}
