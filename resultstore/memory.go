package resultstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sheafml/sheaf/job"
)

// MemoryConfig bounds a Memory. Start from [DefaultMemoryConfig].
type MemoryConfig struct {
	// DefaultTTL is how long a record is kept if its Entry does not say.
	DefaultTTL time.Duration
	// MaxEntries bounds the records, MaxBytes their bytes together.
	MaxEntries int
	MaxBytes   int64
}

// DefaultMemoryConfig returns the settings for a developer's machine.
func DefaultMemoryConfig() MemoryConfig {
	return MemoryConfig{DefaultTTL: 24 * time.Hour, MaxEntries: 1_000_000, MaxBytes: 512 << 20}
}

// Validate reports every fault of the settings at once.
func (c *MemoryConfig) Validate() error {
	var faults []error
	if c.DefaultTTL < time.Second {
		faults = append(faults, fmt.Errorf("default time to live %v: at least 1s is expected", c.DefaultTTL))
	}
	if c.MaxEntries < 1 {
		faults = append(faults, fmt.Errorf("maximum of records %d: more than 0 is expected", c.MaxEntries))
	}
	if c.MaxBytes < 1 {
		faults = append(faults, fmt.Errorf("maximum bytes %d: more than 0 is expected", c.MaxBytes))
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("in-memory result store settings: %w", err)
	}
	return nil
}

// Memory is a Store in this process: what it holds is gone when the process ends. It is safe for concurrent use.
// Expired records are dropped as new ones come, so it needs neither timers nor a goroutine.
type Memory struct {
	cfg     MemoryConfig
	metrics *metrics

	mu      sync.Mutex
	records map[job.ID]kept // nil when closed
	expires deadlines
	bytes   int64
}

type kept struct {
	record  []byte
	expires time.Time
}

// NewMemory makes an empty store. It fails on settings that make no sense.
func NewMemory(cfg MemoryConfig, opts ...Option) (*Memory, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	m, err := newMetrics(newDeps(opts).registry)
	if err != nil {
		return nil, err
	}
	return &Memory{cfg: cfg, metrics: m, records: make(map[job.ID]kept)}, nil
}

// Finish implements Store. A record that does not fit fails with ErrUnavailable: there is room again when others expire.
func (m *Memory) Finish(ctx context.Context, entries []Entry) ([]Outcome, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	start := time.Now()
	outcomes := m.finish(ctx, entries, start)
	m.metrics.wrote(outcomes, time.Since(start).Seconds())
	return outcomes, firstError(outcomes)
}

func (m *Memory) finish(ctx context.Context, entries []Entry, now time.Time) []Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return failAll(len(entries), err)
	}
	m.expire(now)
	outcomes := make([]Outcome, len(entries))
	for i := range entries {
		outcomes[i] = m.put(&entries[i], now)
	}
	return outcomes
}

func (m *Memory) put(e *Entry, now time.Time) Outcome {
	if err := e.fault(); err != nil {
		return Outcome{Err: err}
	}
	if k, ok := m.records[e.ID]; ok {
		if bytes.Equal(k.record, e.Record) {
			return Outcome{Won: true}
		}
		return Outcome{Existing: slices.Clone(k.record)}
	}
	size := int64(len(e.Record))
	if len(m.records) >= m.cfg.MaxEntries || m.bytes+size > m.cfg.MaxBytes {
		return Outcome{Err: &storeError{
			kind: "full", unavailable: true,
			hint: fmt.Sprintf("the store in memory is full (%d records, %d bytes); wait until results expire, raise its limits, or use Redis",
				len(m.records), m.bytes),
		}}
	}
	ttl := e.TTL
	if ttl == 0 {
		ttl = m.cfg.DefaultTTL
	}
	k := kept{record: slices.Clone(e.Record), expires: now.Add(ttl)}
	m.records[e.ID] = k
	m.bytes += size
	m.expires.push(deadline{k.expires, e.ID})
	return Outcome{Won: true}
}

// expire drops the records whose time is over.
func (m *Memory) expire(now time.Time) {
	for len(m.expires) > 0 && !now.Before(m.expires[0].at) {
		over := m.expires.pop()
		// A record that was deleted leaves its deadline behind; another may stand under its ID since.
		if k, ok := m.records[over.id]; ok && !k.expires.After(over.at) {
			m.drop(over.id, k)
		}
	}
}

func (m *Memory) drop(id job.ID, k kept) {
	m.bytes -= int64(len(k.record))
	delete(m.records, id)
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, ids ...job.ID) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	for _, id := range ids {
		if k, ok := m.records[id]; ok {
			m.drop(id, k)
		}
	}
	return nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	records, err := m.get(ctx, ids, time.Now())
	m.metrics.read(records, err)
	return records, err
}

func (m *Memory) get(ctx context.Context, ids []job.ID, now time.Time) ([][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return nil, err
	}
	m.expire(now)
	records := make([][]byte, len(ids))
	for i, id := range ids {
		if k, ok := m.records[id]; ok {
			records[i] = slices.Clone(k.record)
		}
	}
	return records, nil
}

// Ping implements Store. A full store is not writable.
func (m *Memory) Ping(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usable(ctx); err != nil {
		return err
	}
	m.expire(time.Now())
	if len(m.records) >= m.cfg.MaxEntries || m.bytes >= m.cfg.MaxBytes {
		return &storeError{kind: "full", unavailable: true, hint: "the store in memory is full"}
	}
	return nil
}

// Close implements Store. It drops everything. Closing twice is no error.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records, m.expires, m.bytes = nil, nil, 0
	return nil
}

func (m *Memory) usable(ctx context.Context) error {
	if m.records == nil {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	return nil
}
