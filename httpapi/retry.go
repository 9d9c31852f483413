package httpapi

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// retryAfter sets Retry-After for a client that polls.
func (a *API) retryAfter(h fields, d time.Duration) {
	setSeconds(h, wholeSeconds(min(max(d, a.cfg.RetryAfter), a.cfg.RetryAfterMax)))
}

// refuse sets Retry-After for a client that is turned away, as many others may be at the same moment: each is given
// another second, up to half as late again, so that they do not come back as a crowd.
func (a *API) refuse(h fields, d time.Duration) {
	least, most := wholeSeconds(a.cfg.RetryAfter), wholeSeconds(a.cfg.RetryAfterMax)
	from := min(max(wholeSeconds(d), least), most)
	to := from + from/2 + 1
	if to > most {
		from, to = max(least, min(from, most-most/3)), most
	}
	setSeconds(h, from+rand.N(to-from+1)) //nolint:gosec // a spread needs no secrecy
}

func setSeconds(h fields, n int) { h.Set("Retry-After", strconv.Itoa(n)) }

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
