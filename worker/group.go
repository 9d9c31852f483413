package worker

import (
	"encoding/binary"
	"hash/maphash"
	"math"
	"slices"

	"github.com/sheafml/sheaf/job"
)

// groupKey is what jobs must agree on to share a batch: the dimensions of each input but the batch axis, the outputs
// wanted and the parameters. Names, order and datatypes of the inputs agree already, because all jobs of a batcher fit
// the same signature of the same version of one model.
type groupKey struct {
	dims       [][]int64 // of each input
	outputs    []string
	parameters []job.Parameter
}

// newGroupKey copies what it needs, so that a group does not keep a message in memory.
func newGroupKey(j *job.Job) groupKey {
	k := groupKey{outputs: slices.Clone(j.Outputs), parameters: slices.Clone(j.Parameters), dims: make([][]int64, len(j.Inputs))}
	for i := range j.Inputs {
		k.dims[i] = slices.Clone(rowShape(j.Inputs[i].Shape))
	}
	return k
}

// matches reports whether j belongs to the group.
func (k *groupKey) matches(j *job.Job) bool {
	if len(j.Inputs) != len(k.dims) || len(j.Outputs) != len(k.outputs) || len(j.Parameters) != len(k.parameters) {
		return false
	}
	for i := range j.Inputs {
		if !slices.Equal(rowShape(j.Inputs[i].Shape), k.dims[i]) {
			return false
		}
	}
	for i := range j.Parameters {
		if !sameParameter(&j.Parameters[i], &k.parameters[i]) {
			return false
		}
	}
	return slices.Equal(j.Outputs, k.outputs)
}

// sameParameter compares floats by their bits: a NaN agrees with itself, or each such job would be a group for ever.
func sameParameter(a, b *job.Parameter) bool {
	if a.Name != b.Name {
		return false
	}
	if x, ok := a.Value.(float64); ok {
		y, ok := b.Value.(float64)
		return ok && math.Float64bits(x) == math.Float64bits(y)
	}
	return a.Value == b.Value
}

// hashJob returns the same value for all jobs of a group.
func hashJob(seed maphash.Seed, j *job.Job) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	var word [8]byte
	number := func(n uint64) {
		binary.LittleEndian.PutUint64(word[:], n)
		_, _ = h.Write(word[:]) // never fails
	}
	text := func(s string) {
		number(uint64(len(s)))
		_, _ = h.WriteString(s) // never fails
	}
	for i := range j.Inputs {
		dims := rowShape(j.Inputs[i].Shape)
		number(uint64(len(dims)))
		for _, d := range dims {
			number(uint64(d)) //nolint:gosec // only the bits matter
		}
	}
	for _, name := range j.Outputs {
		text(name)
	}
	for i := range j.Parameters {
		text(j.Parameters[i].Name)
		switch v := j.Parameters[i].Value.(type) {
		case string:
			text(v)
		case float64:
			number(math.Float64bits(v))
		case int64:
			number(uint64(v)) //nolint:gosec // only the bits matter
		case bool:
			if v {
				number(1)
			}
		}
	}
	return h.Sum64()
}

// rowShape is the shape of one row.
func rowShape(shape []int64) []int64 {
	if len(shape) == 0 {
		return nil
	}
	return shape[1:]
}

// group is the waiting jobs of one key, in each lane a strand for each tenant.
type group struct {
	key     groupKey
	hash    uint64
	chain   *group // another group with the same hash
	outputs []int  // the wanted outputs as places in the signature; nil is all
	lanes   [2]groupLane
}

type groupLane struct {
	turns turns
	rows  int // not yet in a batch
}

func (g *group) rows() int { return g.lanes[job.Interactive].rows + g.lanes[job.Bulk].rows }
