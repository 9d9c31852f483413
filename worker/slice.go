package worker

import (
	"math"
	"sync"
	"time"
)

// bulkSlice bounds the bulk rows that fill up a run with interactive jobs, because those wait for them. For a model that
// computes a thousand rows in a millisecond this changes nothing; for one that takes milliseconds a row it is what keeps
// interactive jobs quick beside a backfill.
type bulkSlice struct {
	most time.Duration // 0 is no bound
	cost cost
}

// rows returns how many bulk rows may be added to a run: as many as fit the slice, and at most maxRows.
func (s *bulkSlice) rows(maxRows int) int {
	if s.most == 0 || s.cost.row <= 0 {
		return maxRows
	}
	return int(min(float64(s.most)/s.cost.row, float64(maxRows)))
}

// fixedRows returns how many rows would take as long as a run takes whatever its rows.
func (s *bulkSlice) fixedRows(maxRows int) int {
	if s.cost.row <= 0 {
		return 0
	}
	return int(min(s.cost.fixed/s.cost.row, float64(maxRows)))
}

// cost is what a run of the model takes: fixed + row * rows, in nanoseconds. Both are 0 while nothing is known.
type cost struct{ fixed, row float64 }

func (c cost) of(rows int) float64 { return c.fixed + c.row*float64(rows) }

// rowsIn returns how many rows a run of that time has.
func (c cost) rowsIn(d float64) int {
	if c.row <= 0 {
		return math.MaxInt32
	}
	return int(min(max(0, (d-c.fixed)/c.row), math.MaxInt32))
}

// leanFixed is how many times the fixed cost a lean run computes.
const leanFixed = 4

// lean returns the smallest number of rows of which a run is efficient, at most maxRows: more would only make the first
// wait for the last.
func (c cost) lean(maxRows int) int {
	if c.row <= 0 {
		return maxRows
	}
	return int(min(max(1, math.Ceil(leanFixed*c.fixed/c.row)), float64(maxRows)))
}

// costMeter learns the cost of runs: the straight line through the runs of late.
type costMeter struct {
	mu                   sync.Mutex
	runs                 int
	weight, x, y, xx, xy float64 // of all runs, each weighing less than the next
	line                 cost
}

const (
	// runMemory is how many runs back one weighs a third of the last.
	runMemory = 64
	// originWeight is that of a run of no rows in no time, which is always among them: while all runs have the same
	// rows, nothing tells the fixed part from the rest, and it is taken to be small.
	originWeight = 0.5
	// A run counts for at most outlier times what was expected, when so many are known: the process may have been held up.
	outlier     = 4
	outlierRuns = 8
)

// observe learns from a run.
func (m *costMeter) observe(rows int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	x, y := float64(rows), float64(took)
	m.runs++
	if expected := m.line.of(rows); m.runs > outlierRuns && expected > 0 {
		y = min(y, outlier*expected)
	}
	const keep = 1 - 1.0/runMemory
	m.weight, m.x, m.y = keep*m.weight+1, keep*m.x+x, keep*m.y+y
	m.xx, m.xy = keep*m.xx+x*x, keep*m.xy+x*y
	n := m.weight + originWeight
	if spread := n*m.xx - m.x*m.x; spread > 0 {
		row := max(0, (n*m.xy-m.x*m.y)/spread)
		m.line = cost{fixed: max(0, (m.y-row*m.x)/m.weight), row: row}
	}
}

// load returns what is known.
func (m *costMeter) load() cost {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.line
}
