package resultstore

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// replication says how many replicas must have a record before it counts as written. The zero value waits for none.
type replication struct {
	replicas int
	timeout  time.Duration
}

// shipment is what goes to one primary, over one connection: WAIT speaks of the writes of its own connection only.
type shipment struct {
	primary interface{ Pipeline() redis.Pipeliner }
	cmds    []redis.Cmder
	places  []int  // where the commands stand in their batch
	fence   string // a key of this primary to write, since a command may find a record; "": every command writes

	exec  error // of the pipeline
	short error // why it is not known that the replicas have what the commands wrote or found
}

// finishReplicated is the part of finish that waits for replicas.
func (r *Redis) finishReplicated(ctx context.Context, b *batch, entries []Entry, outcomes []Outcome) {
	shipments := r.load(ctx, b, outcomes)
	r.deliver(ctx, shipments)
	var last fault
	for i := range shipments {
		s := &shipments[i]
		for _, place := range s.places {
			o := &outcomes[place]
			err := judge(&b.commands[place].cmd, entries[place].Record, s.exec, o)
			if err == nil {
				err = s.short
			}
			if err != nil {
				*o = Outcome{Err: last.classify(ctx, r, err)}
			}
		}
	}
}

// load sorts the commands of a batch by primary.
func (r *Redis) load(ctx context.Context, b *batch, outcomes []Outcome) []shipment {
	var shipments []shipment
	for i := range b.commands {
		if outcomes[i].Err != nil {
			continue
		}
		c := &b.commands[i]
		s, err := r.shipmentFor(ctx, &shipments, c.key)
		if err != nil {
			outcomes[i].Err = r.classify(ctx, err)
			continue
		}
		if s.fence == "" {
			s.fence = r.fenceKey(c.key)
		}
		s.cmds, s.places = append(s.cmds, &c.cmd), append(s.places, i)
	}
	return shipments
}

// shipmentFor returns the shipment for the primary that has the key, a new one if there is none.
func (r *Redis) shipmentFor(ctx context.Context, shipments *[]shipment, key string) (*shipment, error) {
	s := shipment{primary: r.client}
	if r.shards != nil {
		primary, err := r.shards.MasterForKey(ctx, key)
		if err != nil {
			return nil, err
		}
		s.primary = primary
	}
	at := slices.IndexFunc(*shipments, func(other shipment) bool { return other.primary == s.primary })
	if at < 0 {
		at = len(*shipments)
		*shipments = append(*shipments, s)
	}
	return &(*shipments)[at], nil
}

// deliver sends the shipments side by side.
func (r *Redis) deliver(ctx context.Context, shipments []shipment) {
	var others sync.WaitGroup
	for i := 1; i < len(shipments); i++ {
		others.Go(func() { r.ship(ctx, &shipments[i]) })
	}
	if len(shipments) > 0 {
		r.ship(ctx, &shipments[0])
	}
	others.Wait()
	if r.shards == nil {
		return
	}
	for i := range shipments {
		s := &shipments[i]
		if s.short != nil || slices.ContainsFunc(s.cmds, func(c redis.Cmder) bool { return failure(c) != nil }) {
			// The node that answered so may not be the primary any more: the next try should know.
			r.shards.ReloadState(ctx)
			return
		}
	}
}

// ship sends one shipment and asks for the replicas' word.
//
// A command that finds a record writes nothing, and since Redis 7.2 WAIT does not wait then for the write of whoever
// made that record. So a write of our own comes behind it: replicas take all writes in their order. It is in the same
// pipeline, since another may go to another primary, after a fail-over, and that one may not have the record.
func (r *Redis) ship(ctx context.Context, s *shipment) {
	if s.fence == "" {
		s.exec, s.short = r.confirmed(ctx, s.primary, s.cmds)
		return
	}
	write := redis.NewStatusCmd(ctx, "set", s.fence, "1", "PX", fenceKeep.Milliseconds())
	s.exec, s.short = r.confirmed(ctx, s.primary, append(slices.Clip(s.cmds), write))
	if err := write.Err(); err != nil && s.short == nil {
		s.short = err
	}
}

// fenceKeep is how long a fence stays. Nobody reads it.
const fenceKeep = 10 * time.Second

// fenceKey is a key that no job has, and in a Cluster is where the given one is: braces hold what decides on that.
func (r *Redis) fenceKey(key string) string {
	if r.shards == nil {
		return r.prefix + "fence"
	}
	return r.prefix + "fence{" + key + "}"
}

// confirmed sends commands and WAIT as one pipeline. short says why the replicas' word is missing, nil if it is not.
func (r *Redis) confirmed(ctx context.Context, to interface{ Pipeline() redis.Pipeliner }, cmds []redis.Cmder) (exec, short error) {
	wait := redis.NewIntCmd(ctx, "wait", r.wait.replicas, r.wait.timeout.Milliseconds())
	pipe := to.Pipeline()
	if err := pipe.BatchProcess(ctx, append(slices.Clip(cmds), wait)...); err != nil {
		return err, err
	}
	_, exec = pipe.Exec(ctx)
	n, err := wait.Result()
	switch {
	case err != nil:
		return exec, err
	case n < int64(r.wait.replicas):
		return exec, &storeError{kind: "replicas", unavailable: true, hint: fmt.Sprintf(
			"%d of the %d replicas that are waited for confirmed within %v; start those that are missing, or wait for fewer", n, r.wait.replicas, r.wait.timeout)}
	}
	return exec, nil
}

// pingReplicated is Ping where replicas are waited for. A replica that stands still confirms what has no write behind
// it, so the probes are written.
func (r *Redis) pingReplicated(ctx context.Context, keys int) error {
	var shipments []shipment
	for i := range keys {
		key := r.probeKey(i)
		s, err := r.shipmentFor(ctx, &shipments, key)
		if err != nil {
			return r.classify(ctx, err)
		}
		s.cmds = append(s.cmds, redis.NewStringCmd(ctx, "get", key),
			redis.NewStatusCmd(ctx, "set", key, "1", "PX", probeKeep.Milliseconds()))
	}
	r.deliver(ctx, shipments)
	for i := range shipments {
		s := &shipments[i]
		for _, cmd := range s.cmds {
			if err := failure(cmd); err != nil {
				return r.classify(ctx, err)
			}
		}
		if s.short != nil {
			return r.classify(ctx, s.short)
		}
	}
	return nil
}
