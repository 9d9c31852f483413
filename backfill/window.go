package backfill

import (
	"fmt"
	"strings"
	"time"
)

// Window is a time of the day, such as 22:00-06:00. One that ends before it begins goes past midnight.
type Window struct {
	From, To time.Duration // since midnight
}

// ParseWindow reads "22:00-06:00".
func ParseWindow(s string) (Window, error) {
	from, to, ok := strings.Cut(s, "-")
	if !ok {
		return Window{}, fmt.Errorf("window %q: two times of day are expected, such as 22:00-06:00", s)
	}
	var w Window
	for _, end := range []struct {
		text string
		at   *time.Duration
	}{{from, &w.From}, {to, &w.To}} {
		text := strings.TrimSpace(end.text)
		if text == "24:00" {
			*end.at = 24 * time.Hour
			continue
		}
		t, err := time.Parse("15:04", text)
		if err != nil {
			return Window{}, fmt.Errorf("window %q: %q is no time of day such as 06:00", s, end.text)
		}
		*end.at = time.Duration(t.Hour())*time.Hour + time.Duration(t.Minute())*time.Minute
	}
	if err := w.validate(); err != nil {
		return Window{}, err
	}
	return w, nil
}

// String returns the form that ParseWindow reads.
func (w Window) String() string { return clock(w.From) + "-" + clock(w.To) }

func clock(d time.Duration) string {
	return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60)
}

func (w Window) validate() error {
	const day = 24 * time.Hour
	if w.From < 0 || w.From >= day || w.To < 0 || w.To > day || w.From == w.To {
		return fmt.Errorf("window %s: two times of one day that differ are expected", w)
	}
	return nil
}

// wait is how long it is until the window opens; 0 while it is open. Times of day are those of now's location, also on
// the days on which clocks change.
func (w Window) wait(now time.Time) time.Duration {
	at := func(day int, d time.Duration) time.Time {
		return time.Date(now.Year(), now.Month(), now.Day()+day, int(d.Hours()), int(d.Minutes())%60, 0, 0, now.Location())
	}
	for day := -1; day <= 1; day++ {
		from, to := at(day, w.From), at(day, w.To)
		if w.To < w.From {
			to = at(day+1, w.To)
		}
		switch {
		case now.Before(from):
			return from.Sub(now)
		case now.Before(to):
			return 0
		}
	}
	return 0 // not reached: tomorrow's window is ahead
}

// opens is how long it is until one of the windows opens; 0 while one is open, or if there are none.
func opens(windows []Window, now time.Time) time.Duration {
	if len(windows) == 0 {
		return 0
	}
	least := windows[0].wait(now)
	for _, w := range windows[1:] {
		least = min(least, w.wait(now))
	}
	return least
}
