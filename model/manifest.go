package model

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"go.yaml.in/yaml/v3"
)

// Manifest is what model.yaml says of a model, with the defaults where it says nothing. Every key is optional:
//
//	description: Handwritten digits, 8x8 pixels
//	batching:
//	  max_rows: 64          # rows of one run at most
//	  max_delay: 2ms        # how long the first row may wait for company while an instance is free
//	instances: 2            # runs at the same time; 0 is one for each CPU
//	intra_op_threads: 1     # threads inside one run
//	memory_arena: true      # keep the largest run's memory for the next
//	result_ttl: 24h
//	deadline: 30s
//	retry:
//	  max_attempts: 5       # how often a job is tried
//	  delay: 250ms          # pause after the first attempt; it doubles
//	  max_delay: 5s
//	prediction: probabilities
//	metadata: {team: vision}
type Manifest struct {
	Description string
	Batching    Batching
	// Instances is how many runs may go on at the same time; 0 is as many as the CPUs that Go may use allow.
	Instances int
	// IntraOpThreads is how many threads one run may use. More than 1 makes one heavy run faster; 1 with several
	// instances computes more rows a second.
	IntraOpThreads int
	// MemoryArena lets ONNX Runtime keep the memory of the largest run so far for the next one. Without it a run
	// allocates and frees, which costs time but gives memory back.
	MemoryArena bool
	// ResultTTL is how long a result is kept; 0 is the result store's default.
	ResultTTL time.Duration
	// Deadline is how long after its submit a job is still worth computing, unless it says so itself; 0 is for ever.
	Deadline time.Duration
	Retry    Retry
	// Prediction names the output that /predict answers with; empty is the first.
	Prediction string
	// Metadata is for people; it is shown and not interpreted.
	Metadata map[string]string
}

// Batching bounds the batches of a model.
type Batching struct {
	// MaxRows is how many rows one run may have; 1 is no batching. The gain of a batch of small models levels off at
	// 64 rows, and trees get slower beyond it.
	MaxRows int
	// MaxDelay is how long the oldest row may wait for others while an instance is free. With 0 batches still form:
	// of the rows that arrive while every instance is busy.
	MaxDelay time.Duration
}

// Retry says how often, and after what pauses, a job is tried after a failure that may pass, such as memory running out
// or the death of its worker. What is 0 is the worker's own setting.
type Retry struct {
	// MaxAttempts is how often a job is tried: its first delivery, and each time it is run alone since.
	MaxAttempts int
	// Delay is the pause after the first attempt. It doubles with each, up to MaxDelay, and never goes beyond the job's
	// deadline.
	Delay    time.Duration
	MaxDelay time.Duration
}

// The bounds of what a manifest may ask for. They catch slips, such as a memory size where rows are meant.
const (
	maxMaxRows      = 1 << 16
	maxInstances    = 1024
	maxThreads      = 1024
	maxAttempts     = 50 // the queue's consumers give up after 100 deliveries
	maxRetryDelay   = time.Hour
	maxManifestSize = 1 << 20
)

// DefaultManifest returns the settings of a model without a model.yaml.
func DefaultManifest() Manifest {
	return Manifest{Batching: Batching{MaxRows: 64}, IntraOpThreads: 1, MemoryArena: true}
}

// InstanceCount returns Instances, or, if that is 0, as many as keep the CPUs that Go may use busy.
func (m *Manifest) InstanceCount() int {
	if m.Instances > 0 {
		return m.Instances
	}
	return max(1, runtime.GOMAXPROCS(0)/max(1, m.IntraOpThreads))
}

// ParseManifest reads the text of a model.yaml. The error names every fault with its line; unknown keys are faults.
func ParseManifest(text []byte) (Manifest, error) {
	m := DefaultManifest()
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return m, nil
	case err != nil:
		return Manifest{}, fmt.Errorf("not YAML: %w", err)
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Manifest{}, errors.New("expected one YAML document, there is more after the first")
	}
	var w walker
	for _, root := range document.Content { // at most one
		w.fields(root, "", m.keys(&w))
	}
	if err := errors.Join(w.errs...); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// keys is what model.yaml may have, each with what reads it.
func (m *Manifest) keys(w *walker) []key {
	return []key{
		{"description", w.text(&m.Description)},
		{"batching", func(n *yaml.Node, path string) {
			w.fields(n, path, []key{
				{"max_rows", w.integer(&m.Batching.MaxRows, 1, maxMaxRows)},
				{"max_delay", w.duration(&m.Batching.MaxDelay)},
			})
		}},
		{"instances", w.integer(&m.Instances, 0, maxInstances)},
		{"intra_op_threads", w.integer(&m.IntraOpThreads, 1, maxThreads)},
		{"memory_arena", w.boolean(&m.MemoryArena)},
		{"result_ttl", w.duration(&m.ResultTTL)},
		{"deadline", w.duration(&m.Deadline)},
		{"retry", func(n *yaml.Node, path string) {
			w.fields(n, path, []key{
				{"max_attempts", w.integer(&m.Retry.MaxAttempts, 0, maxAttempts)},
				{"delay", w.duration(&m.Retry.Delay)},
				{"max_delay", w.duration(&m.Retry.MaxDelay)},
			})
			if r := &m.Retry; max(r.Delay, r.MaxDelay) > maxRetryDelay {
				w.fault(n, path, "expected a delay and a max_delay of at most %v: a job that waits holds a place in the queue", maxRetryDelay)
			} else if r.MaxDelay > 0 && r.Delay > r.MaxDelay {
				w.fault(n, path, "expected a delay of at most max_delay (%v), got %v", r.MaxDelay, r.Delay)
			}
		}},
		{"prediction", w.text(&m.Prediction)},
		{"metadata", w.texts(&m.Metadata)},
	}
}

// ReadManifest reads a model.yaml; a file that is not there gives the defaults.
func ReadManifest(path string) (Manifest, error) {
	f, err := os.Open(path) //nolint:gosec // the operator chooses the model repository
	if errors.Is(err, os.ErrNotExist) {
		return DefaultManifest(), nil
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("read the settings of a model: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	text, err := io.ReadAll(io.LimitReader(f, maxManifestSize+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("read the settings of a model: %w", err)
	}
	if len(text) > maxManifestSize {
		return Manifest{}, fmt.Errorf("%s: expected at most %d bytes", path, maxManifestSize)
	}
	m, err := ParseManifest(text)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}
