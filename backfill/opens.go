package backfill

import "time"

// Opens is how long it is until one of the windows opens; 0 while one is open, or if there are none.
func Opens(windows []Window, now time.Time) time.Duration { return opens(windows, now) }
