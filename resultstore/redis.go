package resultstore

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sheafml/sheaf/job"
)

// Redis is a Store in Redis: one plain string a job. It is safe for concurrent use.
type Redis struct {
	client     redis.UniversalClient
	shards     *redis.ClusterClient // client, if it is that of a Cluster
	wait       replication
	prefix     string
	defaultTTL expiry
	log        *slog.Logger
	metrics    *metrics
	batches    sync.Pool // of *batch
	closed     atomic.Bool
}

// keyLen is the length of a job ID as text.
const keyLen = 36

// appendKey appends the key of a job: the prefix and the canonical form of the ID.
func (r *Redis) appendKey(b []byte, id job.ID) []byte {
	b = append(b, r.prefix...)
	b = append(hex.AppendEncode(b, id[0:4]), '-')
	b = append(hex.AppendEncode(b, id[4:6]), '-')
	b = append(hex.AppendEncode(b, id[6:8]), '-')
	b = append(hex.AppendEncode(b, id[8:10]), '-')
	return hex.AppendEncode(b, id[10:16])
}

func (r *Redis) key(id job.ID) string {
	return string(r.appendKey(make([]byte, 0, len(r.prefix)+keyLen), id))
}

// Get implements Store. It always asks the primary: a replica may lag, and a miss must be one.
func (r *Redis) Get(ctx context.Context, ids ...job.ID) ([][]byte, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	records, err := r.get(ctx, ids)
	if err != nil {
		records, err = nil, r.classify(ctx, err)
	}
	r.metrics.read(records, err)
	return records, err
}

func (r *Redis) get(ctx context.Context, ids []job.ID) ([][]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	records := make([][]byte, len(ids))
	if len(ids) > 1 && r.shards == nil {
		keys := make([]string, len(ids))
		for i, id := range ids {
			keys[i] = r.key(id)
		}
		values, err := r.client.MGet(ctx, keys...).Result()
		if err != nil {
			return nil, err
		}
		for i, v := range values {
			if s, ok := v.(string); ok && i < len(records) {
				records[i] = []byte(s)
			}
		}
		return records, nil
	}
	// One key, or keys of several slots, which MGET would not take.
	pipe := r.client.Pipeline()
	cmds := make([]*redis.StringCmd, len(ids))
	for i, id := range ids {
		cmds[i] = pipe.Get(ctx, r.key(id))
	}
	if err := execute(ctx, pipe); err != nil {
		return nil, err
	}
	for i, cmd := range cmds {
		if v, err := cmd.Result(); err == nil {
			records[i] = []byte(v)
		}
	}
	return records, nil
}

// Delete implements Store. Redis frees the memory in a thread of its own.
func (r *Redis) Delete(ctx context.Context, ids ...job.ID) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	if len(ids) == 0 {
		return nil
	}
	pipe := r.client.Pipeline()
	for _, id := range ids {
		pipe.Unlink(ctx, r.key(id)) // one by one: in a Cluster they are of several slots
	}
	return r.classify(ctx, execute(ctx, pipe))
}

// probeKey is a key that no job has.
func (r *Redis) probeKey(i int) string { return r.prefix + "probe-" + strconv.Itoa(i) }

// probes is how many keys stand for all of them, so that in a Cluster some fall to each of a few primaries.
const probes = 16

// probeKeep is how long a probe stays that is written.
const probeKeep = time.Second

// Ping implements Store. It asks for a write that can change nothing, an overwrite of a key that is not there, so that
// all that keeps Redis from taking records (read-only, full, no disk, too few replicas) shows. It is one round trip.
// Where replicas are waited for they must confirm a write, and so one is made, of a key that stays for a second.
func (r *Redis) Ping(ctx context.Context) error {
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	keys := 1
	if r.shards != nil {
		keys = probes
	}
	if r.wait.replicas > 0 {
		return r.pingReplicated(ctx, keys)
	}
	pipe := r.client.Pipeline()
	for i := range keys {
		key := r.probeKey(i)
		pipe.Get(ctx, key)
		pipe.Do(ctx, "set", key, "", "XX")
	}
	return r.classify(ctx, execute(ctx, pipe))
}

// execute sends what is queued and returns the first error. That a key is not there is none.
func execute(ctx context.Context, pipe redis.Pipeliner) error {
	cmds, err := pipe.Exec(ctx) // its error is the first command's, Nil too, which would hide another's
	for _, cmd := range cmds {
		if e := failure(cmd); e != nil {
			return e
		}
	}
	if errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}

// failure is what went wrong with a command. That a key is not there is nothing of the kind.
func failure(cmd redis.Cmder) error {
	if err := cmd.Err(); !errors.Is(err, redis.Nil) {
		return err
	}
	return nil
}

// Close implements Store. What is under way fails with ErrClosed. Closing twice is no error.
func (r *Redis) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.client.Close()
}
