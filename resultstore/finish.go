package resultstore

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// expiry is a time to live as SET takes it: EX or PX, and a count, both strings. They are in interfaces here so that
// they are put there once and not for each record.
type expiry struct{ unit, count any }

func newExpiry(ttl time.Duration) expiry {
	if ttl%time.Second == 0 {
		return expiry{"EX", strconv.FormatInt(int64(ttl/time.Second), 10)}
	}
	return expiry{"PX", strconv.FormatInt(int64((ttl+time.Millisecond-1)/time.Millisecond), 10)}
}

// record passes a record to go-redis by reference: a pointer in an interface costs no allocation, a slice does.
type record []byte

// MarshalBinary implements encoding.BinaryMarshaler, by which go-redis takes it.
func (r *record) MarshalBinary() ([]byte, error) { return *r, nil }

// command is one SET with all that it refers to.
type command struct {
	key    string
	record record
	args   [7]any
	cmd    redis.StringCmd
}

// batch is the commands of one Finish. Batches are used again, which with command saves all but one of go-redis's
// seven allocations for each record, and an eighth of its CPU time.
type batch struct {
	keys     []byte
	commands []command
	queued   []redis.Cmder // the commands that are sent
}

// release lets go of the caller's records and gives the batch back. go-redis keeps nothing of a pipeline that it has
// executed.
func (r *Redis) release(b *batch) {
	clear(b.commands)
	b.keys, b.commands, b.queued = b.keys[:0], b.commands[:0], b.queued[:0]
	r.batches.Put(b)
}

// Finish implements Store. It is one pipeline; in a Cluster one to each primary that is concerned, side by side. With
// Config.WaitReplicas each pipeline ends with WAIT.
//
// go-redis repeats the pipeline if the connection breaks, and the second time finds what the first wrote. That is why
// a record with our own bytes counts as won.
func (r *Redis) Finish(ctx context.Context, entries []Entry) ([]Outcome, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	start := time.Now()
	outcomes := r.finish(ctx, entries)
	r.metrics.wrote(outcomes, time.Since(start).Seconds())
	return outcomes, firstError(outcomes)
}

func (r *Redis) finish(ctx context.Context, entries []Entry) []Outcome {
	if ctx.Err() != nil {
		return failAll(len(entries), contextError(ctx))
	}
	outcomes := make([]Outcome, len(entries))
	b, ok := r.batches.Get().(*batch)
	if !ok {
		b = new(batch)
	}
	defer r.release(b)
	b.fill(ctx, r, entries, outcomes)
	if len(b.queued) == 0 {
		return outcomes
	}
	if r.wait.replicas > 0 {
		r.finishReplicated(ctx, b, entries, outcomes)
		return outcomes
	}
	pipe := r.client.Pipeline()
	if err := pipe.BatchProcess(ctx, b.queued...); err != nil {
		return failAll(len(entries), r.classify(ctx, err))
	}
	_, execErr := pipe.Exec(ctx) // Nil, mostly: the first record was written

	var last fault
	for i := range outcomes {
		if outcomes[i].Err != nil {
			continue
		}
		if err := judge(&b.commands[i].cmd, entries[i].Record, execErr, &outcomes[i]); err != nil {
			outcomes[i].Err = last.classify(ctx, r, err)
		}
	}
	return outcomes
}

// fault is the last error of a batch and what it was classified as: the entries mostly fail for one reason.
type fault struct{ said, means error }

func (f *fault) classify(ctx context.Context, r *Redis, err error) error {
	if f.said == nil || f.said.Error() != err.Error() {
		f.said, f.means = err, r.classify(ctx, err)
	}
	return f.means
}

// fill makes the commands for the entries. An entry that cannot be sent has its outcome at once.
func (b *batch) fill(ctx context.Context, r *Redis, entries []Entry, outcomes []Outcome) {
	b.commands = slices.Grow(b.commands, len(entries))[:len(entries)]
	for i := range entries {
		b.keys = r.appendKey(b.keys, entries[i].ID)
	}
	keys, size := string(b.keys), len(r.prefix)+keyLen
	ttl, exp := time.Duration(0), r.defaultTTL
	for i := range entries {
		e, c := &entries[i], &b.commands[i]
		if err := e.fault(); err != nil {
			outcomes[i].Err = err
			continue
		}
		if e.TTL != ttl {
			if ttl, exp = e.TTL, r.defaultTTL; ttl != 0 {
				exp = newExpiry(ttl)
			}
		}
		c.key, c.record = keys[i*size:(i+1)*size], e.Record
		c.args = [7]any{"set", &c.key, &c.record, "NX", "GET", exp.unit, exp.count}
		c.cmd = *redis.NewStringCmd(ctx, c.args[:]...)
		b.queued = append(b.queued, &c.cmd)
	}
}

// judge reads the answer to SET NX GET: nothing stood there, or our own bytes did, or another's. It returns the error
// if there was no such answer.
func judge(cmd *redis.StringCmd, record []byte, execErr error, o *Outcome) error {
	existing, err := cmd.Result()
	switch {
	case err == redis.Nil || existing == string(record): //nolint:errorlint // go-redis returns it bare, and this is the hot path
		o.Won = true
	case err != nil:
		return err
	case existing == "":
		// No record is empty: the command was not answered, whatever its error says.
		if execErr != nil && !errors.Is(execErr, redis.Nil) {
			return execErr
		}
		return errors.New("an empty value stands under the job's key; it was not written by Sheaf")
	default:
		o.Existing = []byte(existing)
	}
	return nil
}
