package worker

import "time"

// flow decides how many messages of one lane and share to ask for: enough that an instance never waits for a fetch, and no more
// than can be computed soon, because a message that is held here can be computed by no other worker. It is a plain
// data structure, owned by one fetcher.
type flow struct {
	minRows  int           // at least two batches
	ahead    time.Duration // how much work to hold
	maxBytes int

	rowsPerMessage float64 // moving averages
	bytesPerRow    float64
	window         int // messages that one request may bring, see fetched
}

// Smallest and largest window.
const (
	minWindow = 4
	maxWindow = 4096
)

func newFlow(cfg *Config, maxRows, instances int, ackWait time.Duration) flow {
	return flow{
		minRows:  maxRows * (1 + instances),
		ahead:    min(cfg.Ahead, time.Duration(cfg.LeaseFraction*float64(ackWait))),
		maxBytes: cfg.BufferBytes,
		// Assume large messages until it is known better: too few asked for costs a round trip, too many a long wait.
		rowsPerMessage: 64,
		window:         minWindow,
	}
}

// target returns how many rows to hold when computing one takes perRow, 0 if that is not known yet, and so many fetchers
// share the buffer of the lane. What they hold together is about one target; as each change of their number finds the
// buffers as they were, it may be up to 1 + 1/2 + … + 1/8, or 2.7, of them with eight, and a message each.
func (f *flow) target(perRow time.Duration, sharers int) int {
	rows := f.minRows
	if perRow > 0 {
		rows = max(rows, int(f.ahead/perRow))
	}
	if f.bytesPerRow > 0 {
		rows = min(rows, max(1, int(float64(f.maxBytes)/f.bytesPerRow)))
	}
	return max(1, rows/sharers)
}

// ask returns how many messages to ask for while so many rows are held, 0 for none now. It asks when half of the target
// is used up, which is while there still is a batch.
func (f *flow) ask(held int, perRow time.Duration, sharers int) int {
	target := f.target(perRow, sharers)
	if held > target/2 {
		return 0
	}
	return max(1, min(int(float64(target-held)/f.rowsPerMessage), f.window))
}

// message learns from a message that came.
func (f *flow) message(rows, bytes int) {
	rows = max(rows, 1)
	f.rowsPerMessage = riseAtOnce(f.rowsPerMessage, float64(rows))
	f.bytesPerRow = riseAtOnce(f.bytesPerRow, float64(bytes)/float64(rows))
}

// riseAtOnce is a moving average that goes up at once and down slowly: it is the large messages that make a buffer
// overflow.
func riseAtOnce(average, sample float64) float64 {
	const weight = 1.0 / 16
	if sample > average {
		return sample
	}
	return average + (sample-average)*weight
}

// fetched learns from a request that is over. While requests are filled the window doubles; when one is not, the queue
// is nearly empty, and a small window keeps the messages that come next for whichever worker is free.
func (f *flow) fetched(limit, came int) {
	switch {
	case came < limit:
		f.window = min(max(minWindow, 2*came), f.window)
	case limit == f.window:
		f.window = min(2*f.window, maxWindow)
	}
}
