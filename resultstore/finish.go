package resultstore

import (
	"context"
	"errors"
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

// command is one SET with all that it refers to, so that a batch is one allocation and not six for each record.
type command struct {
	key    string
	record record
	args   [7]any
	cmd    redis.StringCmd
}

// Finish implements Store. It is one pipeline; in a Cluster one to each primary that is concerned, side by side.
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
	commands := make([]command, len(entries))
	queued := r.queue(ctx, entries, outcomes, commands)
	if len(queued) == 0 {
		return outcomes
	}
	pipe := r.client.Pipeline()
	if err := pipe.BatchProcess(ctx, queued...); err != nil {
		return failAll(len(entries), classify(ctx, err))
	}
	_, execErr := pipe.Exec(ctx) // Nil, mostly: the first record was written

	var same, classified error // the entries of a batch mostly fail for one reason: classify it once
	for i := range outcomes {
		if outcomes[i].Err != nil {
			continue
		}
		err := judge(&commands[i].cmd, entries[i].Record, execErr, &outcomes[i])
		if err == nil {
			continue
		}
		if same == nil || same.Error() != err.Error() {
			same, classified = err, classify(ctx, err)
		}
		outcomes[i].Err = classified
	}
	return outcomes
}

// queue fills commands from entries. An entry that cannot be sent has its outcome at once.
func (r *Redis) queue(ctx context.Context, entries []Entry, outcomes []Outcome, commands []command) []redis.Cmder {
	queued := make([]redis.Cmder, 0, len(entries))
	size := len(r.prefix) + keyLen
	buf := make([]byte, 0, size*len(entries))
	for i := range entries {
		buf = r.appendKey(buf, entries[i].ID)
	}
	keys := string(buf)
	ttl, exp := time.Duration(0), r.defaultTTL
	for i := range entries {
		e, c := &entries[i], &commands[i]
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
		queued = append(queued, &c.cmd)
	}
	return queued
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
