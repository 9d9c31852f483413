package backfill

import (
	"cmp"
	"context"
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
	for i := range g.Inputs {
		head, tail, err := splitTensor(&g.Inputs[i], rows)
		if err != nil {
			return halves, err
		}
		halves[0].Inputs = append(halves[0].Inputs, head)
		halves[1].Inputs = append(halves[1].Inputs, tail)
	}
	return halves, nil
}

func splitTensor(t *job.Tensor, rows int) (head, tail job.Tensor, err error) {
	total := t.Rows()
	if rows <= 0 || rows >= total {
		return head, tail, fmt.Errorf("input %q: cannot split %d rows at %d", t.Name, total, rows)
	}
	cut := len(t.Data) / total * rows
	if t.Datatype == job.Bytes {
		cut = 0
		for range job.Elements(t.Shape) / total * rows {
			cut += 4 + int(uint32(t.Data[cut])|uint32(t.Data[cut+1])<<8|uint32(t.Data[cut+2])<<16|uint32(t.Data[cut+3])<<24)
		}
	}
	part := func(rows int, data []byte) job.Tensor {
		shape := slices.Clone(t.Shape)
		shape[0] = int64(rows)
		return job.Tensor{Name: t.Name, Datatype: t.Datatype, Shape: shape, Data: data}
	}
	return part(rows, t.Data[:cut:cut]), part(total-rows, t.Data[cut:]), nil
}
