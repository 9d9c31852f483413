package job

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// RowsAt returns n rows of the tensor from a row on. The data is not copied.
func (t *Tensor) RowsAt(at, n int) (Tensor, error) {
	total := t.Rows()
	count, ok := elementsOf(t)
	if len(t.Shape) == 0 || !ok || at < 0 || n < 0 || at+n > total {
		return Tensor{}, fmt.Errorf("tensor %q: no rows %d to %d of shape %v", t.Name, at, at+n, t.Shape)
	}
	shape := slices.Clone(t.Shape)
	shape[0] = int64(n)
	each := 0 // elements of a row
	if total > 0 {
		each = count / total
	}
	from, to := each*at, each*(at+n)
	if t.Datatype == Bytes {
		from = textAt(t.Data, 0, from)
		to = textAt(t.Data, from, each*n)
	} else {
		from, to = from*t.Datatype.Size(), to*t.Datatype.Size()
	}
	return Tensor{Name: t.Name, Datatype: t.Datatype, Shape: shape, Data: t.Data[from:to:to]}, nil
}

// textAt returns where the element stands that comes n after the one at a place in BYTES data, which has been checked.
func textAt(data []byte, place, n int) int {
	for range n {
		place += 4 + int(binary.LittleEndian.Uint32(data[place:]))
	}
	return place
}
