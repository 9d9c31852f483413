package backfill

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/sheafml/sheaf/job"
)

// answer asks for a part whatever it takes, and encodes the answers. It begins with one slot, and gives it back.
func (r *Run) answer(ctx context.Context, a *answered) error {
	groups, answers := r.deps.Task.Decode(a.part)
	asking := asking{run: r, answers: answers}
	if len(groups) == 1 {
		asking.one(ctx, r.key(a.part.Index), &groups[0])
	} else {
		r.slots.Release(1)
		var all sync.WaitGroup
		for i := range groups {
			if r.slots.Acquire(ctx, 1) != nil {
				break
			}
			all.Go(func() { asking.one(ctx, r.key(a.part.Index)+"/"+strconv.Itoa(i), &groups[i]) })
		}
		all.Wait()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if asking.err != nil {
		return asking.err
	}
	slices.SortFunc(asking.answers, func(x, y Answer) int { return cmp.Compare(x.Unit, y.Unit) })
	if len(asking.answers) != a.part.Units {
		return fmt.Errorf("part %d: %d answers for %d units", a.part.Index, len(asking.answers), a.part.Units)
	}
	for i := range asking.answers {
		if asking.answers[i].Err != nil {
			a.failed++
		}
	}
	a.keys = asking.keys
	var err error
	if a.encoded, err = r.deps.Task.Encode(a.part, asking.answers); err != nil {
		return fmt.Errorf("encode the answers: %w", err)
	}
	return nil
}

// key names the first job of a part.
func (r *Run) key(part int64) string { return r.deps.Key + "/" + strconv.FormatInt(part, 10) }

// asking collects the answers of one part.
type asking struct {
	run *Run

	mu      sync.Mutex
	answers []Answer
	keys    []string
	err     error
}

// one asks for a group, in a slot that is held and is given back. A group that fails is halved until the unit that is to
// blame stands alone: its neighbours have answers.
func (k *asking) one(ctx context.Context, key string, g *Group) {
	r := k.run
	r.inFlight.Add(1)
	result, err := r.deps.Jobs.Do(ctx, key, g.Inputs)
	r.inFlight.Add(-1)
	r.slots.Release(1)
	if err == nil {
		r.jobs.Add(1)
	}
	if err == nil && result.State == job.Failed && len(g.Units) > 1 {
		r.halve(ctx, k, key, g, &result)
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.keys = append(k.keys, key)
		err = k.tell(g, &result)
	}
	if k.err == nil {
		k.err = err
	}
}

func (r *Run) halve(ctx context.Context, k *asking, key string, g *Group, result *job.Result) {
	k.mu.Lock()
	k.keys = append(k.keys, key)
	k.mu.Unlock()
	r.log.Debug("a job failed, its halves are asked", "key", key, "units", len(g.Units), "error", result.Error)
	halves, err := split(g)
	if err != nil {
		k.mu.Lock()
		k.err = cmp.Or(k.err, err)
		k.mu.Unlock()
		return
	}
	var both sync.WaitGroup
	for i := range halves {
		if r.slots.Acquire(ctx, 1) != nil {
			break
		}
		both.Go(func() { k.one(ctx, key+"."+strconv.Itoa(i), &halves[i]) })
	}
	both.Wait()
}

// tell notes the answers of a finished job.
func (k *asking) tell(g *Group, result *job.Result) error {
	if result.State != job.Succeeded {
		why := result.Error
		if why == nil {
			why = job.Errorf(job.CodeInternal, "", "the job was %s", result.State)
		}
		for _, u := range g.Units {
			k.answers = append(k.answers, Answer{Unit: u.Index, Rows: u.Rows, Result: result, Err: why})
		}
		return nil
	}
	at := 0
	for _, u := range g.Units {
		k.answers = append(k.answers, Answer{Unit: u.Index, Outputs: result.Outputs, At: at, Rows: u.Rows, Result: result})
		at += u.Rows
	}
	if len(g.Units) == 1 {
		return nil // of a model without a batch axis, the outputs may have any shape
	}
	for i := range result.Outputs {
		if rows := result.Outputs[i].Rows(); rows != at {
			return fmt.Errorf("output %q has %d rows for %d that were asked", result.Outputs[i].Name, rows, at)
		}
	}
	return nil
}

// split halves a group between units. Their tensors alias the group's.
func split(g *Group) ([2]Group, error) {
	middle := len(g.Units) / 2
	rows := 0
	for _, u := range g.Units[:middle] {
		rows += u.Rows
	}
	halves := [2]Group{{Units: g.Units[:middle]}, {Units: g.Units[middle:]}}
	if len(g.Inputs) == 0 {
		return halves, nil
	}
	var err error
	if halves[0].Inputs, err = Rows(g.Inputs, 0, rows); err == nil {
		halves[1].Inputs, err = Rows(g.Inputs, rows, g.Inputs[0].Rows())
	}
	return halves, err
}

// Rows cuts rows from one to before another out of tensors, which it aliases.
func Rows(tensors []job.Tensor, from, to int) ([]job.Tensor, error) {
	cut := make([]job.Tensor, len(tensors))
	for i := range tensors {
		t := &tensors[i]
		total := t.Rows()
		if from < 0 || from >= to || to > total {
			return nil, fmt.Errorf("tensor %q: it has %d rows, not those from %d to %d", t.Name, total, from, to)
		}
		shape := slices.Clone(t.Shape)
		shape[0] = int64(to - from)
		begin := offset(t, total, from)
		end := offset(t, total, to)
		cut[i] = job.Tensor{Name: t.Name, Datatype: t.Datatype, Shape: shape, Data: t.Data[begin:end:end]}
	}
	return cut, nil
}

// offset is where a row begins in the data of a tensor with so many rows.
func offset(t *job.Tensor, total, row int) int {
	if t.Datatype != job.Bytes {
		return len(t.Data) / total * row
	}
	at := 0
	for range job.Elements(t.Shape) / total * row {
		at += 4 + int(binary.LittleEndian.Uint32(t.Data[at:]))
	}
	return at
}
