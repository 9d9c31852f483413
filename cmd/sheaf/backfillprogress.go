package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/sheafml/sheaf/backfill"
)

// backfillStatus is what the progress of a backfill says, and its JSON.
type backfillStatus struct {
	Event    string  `json:"event"` // progress, done or stopped
	Rows     int64   `json:"rows"`  // written, earlier runs' too
	Total    int64   `json:"total,omitempty"`
	Share    float64 `json:"share,omitempty"` // of the input, 0 to 1
	Errors   int64   `json:"errors"`
	Rate     float64 `json:"rows_per_second"`
	ETA      float64 `json:"eta_seconds,omitempty"`
	Elapsed  float64 `json:"elapsed_seconds"`
	InFlight int64   `json:"jobs_in_flight"`
	Queued   *int    `json:"queued,omitempty"` // messages of the model on the bulk lane
	Waiting  string  `json:"waiting,omitempty"`
	Output   string  `json:"output,omitempty"`
	Bad      string  `json:"errors_file,omitempty"`
	Resumed  int64   `json:"resumed_rows,omitempty"`
}

const (
	drawEvery  = 200 * time.Millisecond // on a terminal
	printEvery = 5 * time.Second        // on a pipe
	askEvery   = 2 * time.Second        // for the queue's depth
	rateOver   = 15 * time.Second       // what the rate is averaged over
)

// backfillProgress shows how a backfill goes on.
type backfillProgress struct {
	out    io.Writer
	format string // "terminal", "plain", "json" or "none"
	before int64  // rows and bad rows of earlier runs
	failed int64
	total  func() int64             // rows in all; -1 if not known
	read   func() (done, all int64) // bytes of the input
	run    *backfill.Run
	depth  func(context.Context) int
	begun  time.Time

	queued  *int
	samples []rateSample
}

type rateSample struct {
	at   time.Time
	rows int64
}

// follow shows the progress until ctx ends.
func (p *backfillProgress) follow(ctx context.Context) {
	every := printEvery
	if p.format == "terminal" {
		every = drawEvery
	}
	tick, ask := time.NewTicker(every), time.NewTicker(askEvery)
	defer tick.Stop()
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask.C:
			asked, cancel := context.WithTimeout(ctx, askEvery)
			if n := p.depth(asked); n >= 0 {
				p.queued = &n
			}
			cancel()
		case <-tick.C:
			p.show(p.status("progress"))
		}
	}
}

// status sums up.
func (p *backfillProgress) status(event string) backfillStatus {
	now, progress := time.Now(), p.run.Progress()
	s := backfillStatus{
		Event: event, Rows: p.before + progress.Units, Errors: p.failed + progress.Failed, Elapsed: now.Sub(p.begun).Seconds(),
		InFlight: progress.InFlight, Queued: p.queued, Waiting: progress.Waiting, Resumed: p.before,
	}
	p.samples = append(p.samples, rateSample{now, progress.Units})
	for len(p.samples) > 2 && now.Sub(p.samples[1].at) > rateOver {
		p.samples = p.samples[1:]
	}
	first := p.samples[0]
	if event != "progress" || len(p.samples) < 2 {
		first = rateSample{p.begun, 0}
	}
	if d := now.Sub(first.at).Seconds(); d > 0 {
		s.Rate = float64(progress.Units-first.rows) / d
	}
	left := -1.0 // rows
	if total := p.total(); total >= 0 {
		s.Total = total
		left = float64(total - s.Rows)
		if total > 0 {
			s.Share = float64(s.Rows) / float64(total)
		}
	} else if done, all := p.read(); all > 0 && done > 0 {
		// What has been read is a little ahead of what is written.
		s.Share = min(1, float64(done)/float64(all))
		left = float64(s.Rows) * (1/s.Share - 1)
	}
	if s.Rate > 0 && left > 0 {
		s.ETA = left / s.Rate
	}
	return s
}

func (p *backfillProgress) show(s backfillStatus) {
	switch p.format {
	case "json":
		if b, err := json.Marshal(s); err == nil {
			fmt.Fprintf(p.out, "%s\n", b)
		}
	case "plain":
		fmt.Fprintln(p.out, s.text())
	case "terminal":
		// Drawn over the last one; what is left of it is cleared.
		fmt.Fprintf(p.out, "\r%s\x1b[K", fitTerminal(p.out, s.text()))
	}
}

// fitTerminal cuts a line that the terminal would break: what is drawn over it must cover it.
func fitTerminal(w io.Writer, line string) string {
	f, ok := w.(*os.File)
	if !ok {
		return line
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if runes := []rune(line); err == nil && width > 1 && len(runes) >= width {
		return string(runes[:width-1])
	}
	return line
}

// end clears the line, for what is printed next.
func (p *backfillProgress) end() {
	if p.format == "terminal" {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
}

func (s *backfillStatus) text() string {
	parts := []string{fmt.Sprintf("%s rows", grouped(s.Rows))}
	if s.Total > 0 {
		parts[0] = fmt.Sprintf("%s of %s rows", grouped(s.Rows), grouped(s.Total))
	}
	if s.Share > 0 {
		parts[0] += fmt.Sprintf(" (%.1f %%)", 100*s.Share)
	}
	parts = append(parts, fmt.Sprintf("%s rows/s", grouped(int64(s.Rate))))
	if s.ETA > 0 {
		parts = append(parts, "ETA "+(time.Duration(s.ETA)*time.Second).String())
	}
	parts = append(parts, fmt.Sprintf("%s bad", grouped(s.Errors)))
	if s.Queued != nil {
		parts = append(parts, fmt.Sprintf("%d queued", *s.Queued))
	}
	if s.Waiting != "" {
		parts = append(parts, s.Waiting)
	}
	return strings.Join(parts, " · ")
}

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
