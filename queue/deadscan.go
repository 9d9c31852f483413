package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/sheafml/sheaf/job"
)

// scanBatch is how many dead letters are on their way at a time: what bounds the memory of a scan.
const scanBatch = 256

// DeadLetters calls fn for each dead letter that matches, oldest first, without its body. What is written while it runs
// is left out. fn may take its time, and remove letters; an error that it returns ends the scan and is returned.
//
// However many letters there are, a few hundred of them are in memory at a time.
func (q *Queue) DeadLetters(ctx context.Context, f DeadFilter, fn func(*DeadLetter) error) error {
	if err := f.Validate(); err != nil {
		return err
	}
	if len(f.Seqs) > 0 {
		return q.deadBySequence(ctx, &f, fn)
	}
	s, err := q.stream(ctx, streamDead)
	if err != nil {
		return err
	}
	last := s.CachedInfo().State.LastSeq
	if f.MaxSeq == 0 || f.MaxSeq > last {
		f.MaxSeq = last
	}
	scan := deadScan{q: q, stream: s, filter: &f, next: 1, fn: fn}
	for !scan.over {
		if err := scan.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// deadBySequence looks at the letters of the filter's own sequences.
func (q *Queue) deadBySequence(ctx context.Context, f *DeadFilter, fn func(*DeadLetter) error) error {
	seqs := slices.Clone(f.Seqs)
	slices.Sort(seqs)
	for _, seq := range slices.Compact(seqs) {
		l, err := q.DeadLetterAt(ctx, seq)
		if errors.Is(err, job.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		l.Header, l.Body = nil, nil
		if f.match(l) {
			if err := fn(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// deadScan reads the dead stream through a consumer of its own, which the server forgets by itself.
type deadScan struct {
	q      *Queue
	stream jetstream.Stream
	filter *DeadFilter
	next   uint64 // sequence to go on from
	over   bool
	fn     func(*DeadLetter) error
}

// scanIdle is how long the server keeps a scan's consumer while fn works.
const scanIdle = 2 * time.Minute

// scanTries is how often in a row nothing may come of letters that are said to be there.
const scanTries = 5

// scanWait bounds the wait for letters that were there a moment ago.
const scanWait = 2 * time.Second

// run reads until the end, or until the consumer is gone: then it is to be called again.
func (d *deadScan) run(ctx context.Context) error {
	cfg := jetstream.ConsumerConfig{
		FilterSubject:     d.filter.subject(),
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       d.next,
		AckPolicy:         jetstream.AckNonePolicy,
		HeadersOnly:       true,
		InactiveThreshold: scanIdle,
		MemoryStorage:     true,
		Replicas:          1,
	}
	if !d.filter.NewerThan.IsZero() && d.next == 1 {
		start := d.filter.NewerThan
		cfg.DeliverPolicy, cfg.OptStartSeq, cfg.OptStartTime = jetstream.DeliverByStartTimePolicy, 0, &start
	}
	once, cancel := context.WithTimeout(ctx, d.q.cfg.RequestTimeout)
	c, err := d.stream.CreateConsumer(once, cfg)
	cancel()
	if err != nil {
		return requestError("read the dead letters", err)
	}
	name := c.CachedInfo().Name
	defer func() {
		// Best effort: the server forgets it by itself.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = d.stream.DeleteConsumer(ctx, name)
	}()
	pending, delivered, fruitless := c.CachedInfo().NumPending, uint64(0), 0
	for pending > 0 && d.next <= d.filter.MaxSeq {
		n := int(min(pending, scanBatch))
		came := 0
		batch, err := c.Fetch(n, jetstream.FetchMaxWait(scanWait))
		if err != nil {
			return requestError("read the dead letters", err)
		}
		for m := range batch.Messages() {
			meta, err := m.Metadata()
			if err != nil {
				return fmt.Errorf("read the dead letters: %w", err)
			}
			if delivered++; meta.Sequence.Consumer != delivered {
				return nil // some were lost on the way: go on from the last one that came
			}
			came++
			fruitless = 0
			pending = meta.NumPending
			if err := d.take(ctx, m, meta); err != nil || d.over {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read the dead letters: %w", err)
		}
		if came == n {
			continue
		}
		// Some have been removed in the meantime, or the consumer is gone.
		if came == 0 {
			if fruitless++; fruitless > scanTries {
				return fmt.Errorf("read the dead letters: %w: nothing comes (%w)", ErrUnavailable, cmp.Or(batch.Error(), nats.ErrTimeout))
			}
		}
		once, cancel := context.WithTimeout(ctx, d.q.cfg.RequestTimeout)
		info, err := c.Info(once)
		cancel()
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			return nil
		}
		if err != nil {
			return requestError("read the dead letters", err)
		}
		pending = info.NumPending
	}
	d.over = true
	return nil
}

// take handles one letter.
func (d *deadScan) take(ctx context.Context, m jetstream.Msg, meta *jetstream.MsgMetadata) error {
	seq := meta.Sequence.Stream
	if seq > d.filter.MaxSeq {
		d.over = true
		return nil
	}
	d.next = seq + 1
	size, _ := strconv.Atoi(m.Headers().Get("Nats-Msg-Size"))
	l := readDeadLetter(seq, meta.Timestamp, m.Subject(), m.Headers(), size)
	if !d.filter.match(l) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("read the dead letters: %w", err)
	}
	return d.fn(l)
}
