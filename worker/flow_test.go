package worker

import (
	"testing"
	"time"
)

func TestFlowAsksForWhatFits(t *testing.T) {
	cfg := DefaultConfig()
	fresh := func() flow {
		f := newFlow(&cfg, 64, 1, 10*time.Second)
		f.rowsPerMessage, f.window = 1, maxWindow
		return f
	}
	tests := []struct {
		name    string
		change  func(*flow)
		held    int
		perRow  time.Duration
		sharers int // 0 is 1
		want    int
	}{
		{name: "two batches when the speed is not known", want: 128},
		{name: "two batches of a slow model", perRow: time.Second, want: 128},
		{name: "what a fast model does in the time ahead", perRow: 20 * time.Microsecond, want: 2500},
		{name: "what is missing", held: 60, want: 68},
		{name: "while one batch is left it asks", held: 64, want: 64},
		{name: "with more it does not", held: 65, want: 0},
		{name: "fewer messages if they have many jobs", change: func(f *flow) { f.message(16, 1) }, want: 8},
		{name: "one at least, however large", change: func(f *flow) { f.message(1000, 1) }, want: 1},
		{name: "not more than the bytes allow", change: func(f *flow) { f.message(1, cfg.BufferBytes/10) }, want: 10},
		{name: "one message however many bytes", change: func(f *flow) { f.message(1, 2*cfg.BufferBytes) }, want: 1},
		{name: "a part of the buffer for each that has more to bring", sharers: 4, want: 32},
		{name: "and while half of that is left it asks", sharers: 4, held: 16, want: 16},
		{name: "with more it does not, whoever else holds less", sharers: 4, held: 17, want: 0},
		{name: "but one row at least", sharers: 1000, want: 1},
		{name: "not more than the window", change: func(f *flow) { f.window = 7 }, want: 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := fresh()
			if tt.change != nil {
				tt.change(&f)
			}
			if got := f.ask(tt.held, tt.perRow, max(1, tt.sharers)); got != tt.want {
				t.Errorf("asks for %d messages, want %d", got, tt.want)
			}
		})
	}
}

func TestFlowHoldsAtMostAPartOfALease(t *testing.T) {
	cfg := DefaultConfig()
	f := newFlow(&cfg, 1, 1, 100*time.Millisecond)
	if got, want := f.target(time.Millisecond, 1), int(cfg.LeaseFraction*100); got != want {
		t.Errorf("holds %d ms of work under leases of 100 ms, want %d", got, want)
	}
}

func TestFlowWindow(t *testing.T) {
	cfg := DefaultConfig()
	f := newFlow(&cfg, 64, 1, 10*time.Second)
	for range 20 {
		f.fetched(f.window, f.window)
	}
	if f.window != maxWindow {
		t.Errorf("the window is %d after many full requests, want %d", f.window, maxWindow)
	}
	f.fetched(100, 100)
	if f.window != maxWindow {
		t.Errorf("the window is %d, want it unchanged by a request for less", f.window)
	}
	f.fetched(maxWindow, 10)
	if f.window != 20 {
		t.Errorf("the window is %d after 10 messages came, want 20", f.window)
	}
	f.fetched(20, 0)
	if f.window != minWindow {
		t.Errorf("the window is %d when the queue is empty, want %d", f.window, minWindow)
	}
}

func TestFlowForgetsLargeMessagesSlowly(t *testing.T) {
	cfg := DefaultConfig()
	f := newFlow(&cfg, 64, 1, 10*time.Second)
	f.window = maxWindow
	f.message(128, 128)
	if got := f.ask(0, 0, 1); got != 1 {
		t.Errorf("asks for %d messages of 128 rows, want 1", got)
	}
	for range 200 {
		f.message(1, 1)
	}
	if got := f.ask(0, 0, 1); got < 100 {
		t.Errorf("asks for %d messages although they have one row again, want about 128", got)
	}
}
