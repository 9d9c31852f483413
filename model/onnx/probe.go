package onnx

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

// A model whose file says that it has a batch axis may mix its rows all the same: it may normalise over the batch, or
// transpose it. Run together, jobs would then get each other's numbers. So every such model is tried when it is loaded:
// rows run together must give what they give alone.

// probeRows differs from every one of probeSizes, so that an output with another axis in the place of the rows shows.
const probeRows = 3

// probeSizes are tried, one after the other, for the dimensions that vary beside the rows: some models need room.
var probeSizes = [...]int64{4, 1, 32}

// maxProbe bounds the elements of one input of the probe.
const maxProbe = 1 << 24

// errMixed says that a row's outputs depend on the rows that it is run with.
var errMixed = errors.New("its rows influence each other")

// probe returns why rows must not be run together, nil if they may. A model that does not run at all on made-up inputs
// shows nothing, and what its file says is believed.
func (m *Model) probe(ctx context.Context) error {
	in, err := m.NewInstance()
	if err != nil {
		return nil //nolint:nilerr // shows when it is served
	}
	defer in.Close() //nolint:errcheck // it only frees
	for _, size := range probeSizes {
		err := probeInstance(ctx, in, &m.info.Signature, size)
		if err == nil || errors.Is(err, errMixed) || errors.Is(err, model.ErrRows) {
			return err
		}
	}
	return nil
}

// probeInstance runs made-up rows together and then alone. An error that is neither errMixed nor model.ErrRows says
// that the model did not run.
func probeInstance(ctx context.Context, in *Instance, sig *model.Signature, size int64) error {
	rnd := rand.New(rand.NewPCG(1, uint64(size))) //nolint:gosec // made-up inputs are to be the same each time
	rows := make([][][]byte, len(sig.Inputs))
	for i := range sig.Inputs {
		n := job.Elements(probeShape(&sig.Inputs[i], 1, size))
		if n < 0 || n > maxProbe {
			return fmt.Errorf("input %q is too large to be tried", sig.Inputs[i].Name)
		}
		for range probeRows {
			rows[i] = append(rows[i], madeUp(rnd, sig.Inputs[i].Datatype, n))
		}
	}
	run := func(from, to int) ([]job.Tensor, error) {
		b := &model.Batch{Rows: to - from}
		for i := range sig.Inputs {
			b.Inputs = append(b.Inputs, model.BatchInput{
				Shape: probeShape(&sig.Inputs[i], int64(to-from), size), Parts: rows[i][from:to],
			})
		}
		return in.Run(ctx, b)
	}
	outputs, err := run(0, probeRows)
	if err != nil {
		return err
	}
	together := make([]job.Tensor, len(outputs))
	for k, t := range outputs {
		together[k] = job.Tensor{Name: t.Name, Datatype: t.Datatype, Shape: slices.Clone(t.Shape), Data: bytes.Clone(t.Data)}
	}
	for r := range probeRows {
		alone, err := run(r, r+1)
		if err != nil {
			return err
		}
		for k := range alone {
			if !sameRow(&together[k], r, &alone[k]) {
				return fmt.Errorf("%w: output %q of a row is another when the row is run with others", errMixed, alone[k].Name)
			}
		}
	}
	return nil
}

func probeShape(spec *model.TensorSpec, rows, size int64) []int64 {
	shape := slices.Clone(spec.Shape)
	for i := range shape {
		if shape[i] < 0 {
			shape[i] = size
		}
	}
	shape[0] = rows
	return shape
}

// madeUp returns n elements: small numbers that are valid as indices, masks and measurements alike.
func madeUp(rnd *rand.Rand, dt job.Datatype, n int) []byte {
	var b []byte
	for range n {
		switch dt {
		case job.FP16: // 0.5 to 1
			b = binary.LittleEndian.AppendUint16(b, 0x3800|uint16(rnd.IntN(1<<10))) //nolint:gosec // ten bits
		case job.BF16:
			b = binary.LittleEndian.AppendUint16(b, 0x3f00|uint16(rnd.IntN(1<<7))) //nolint:gosec // seven bits
		case job.FP32:
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(rnd.Float32()))
		case job.FP64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(rnd.Float64()))
		case job.Bytes:
			b = job.AppendBytesElement(b, []byte{"abcde"[rnd.IntN(5)]})
		default: // whole numbers and truth values: 0 or 1
			b = append(b, "\x00\x01"[rnd.IntN(2)])
			b = append(b, make([]byte, dt.Size()-1)...)
		}
	}
	return b
}

// sameRow reports whether row r of the batch's output is what the row gave alone.
func sameRow(together *job.Tensor, r int, alone *job.Tensor) bool {
	if len(together.Shape) == 0 || len(alone.Shape) == 0 || !slices.Equal(together.Shape[1:], alone.Shape[1:]) {
		return false
	}
	if together.Datatype == job.Bytes {
		return bytes.Equal(bytesRow(together, r), alone.Data)
	}
	width := len(alone.Data)
	if len(together.Data) != probeRows*width {
		return false
	}
	return closeTo(together.Datatype, together.Data[r*width:(r+1)*width], alone.Data)
}

// bytesRow is the raw elements of one row of a tensor of strings.
func bytesRow(t *job.Tensor, r int) []byte {
	perRow := job.Elements(t.Shape[1:])
	rest, start := t.Data, 0
	for n := 0; len(rest) >= 4; n++ {
		at := len(t.Data) - len(rest)
		if n == r*perRow {
			start = at
		}
		if n == (r+1)*perRow {
			return t.Data[start:at]
		}
		rest = rest[4+int(binary.LittleEndian.Uint32(rest)):]
	}
	return t.Data[start:]
}

// closeTo compares numbers as far as rounding allows: a runtime may add in another order for other batch sizes.
func closeTo(dt job.Datatype, a, b []byte) bool {
	const absolute, relative, relativeHalf = 1e-4, 1e-3, 2e-2
	size, slack := dt.Size(), relative
	var value func([]byte) float64
	switch dt {
	case job.FP32:
		value = func(p []byte) float64 { return float64(math.Float32frombits(binary.LittleEndian.Uint32(p))) }
	case job.FP64:
		value = func(p []byte) float64 { return math.Float64frombits(binary.LittleEndian.Uint64(p)) }
	case job.BF16:
		slack = relativeHalf
		value = func(p []byte) float64 {
			return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(p)) << 16))
		}
	case job.FP16:
		slack = relativeHalf
		value = func(p []byte) float64 { return half(binary.LittleEndian.Uint16(p)) }
	default:
		return bytes.Equal(a, b)
	}
	for at := 0; at < len(a); at += size {
		x, y := value(a[at:]), value(b[at:])
		same := x == y || math.IsNaN(x) && math.IsNaN(y)
		if !same && !(math.Abs(x-y) <= absolute+slack*max(math.Abs(x), math.Abs(y))) {
			return false
		}
	}
	return true
}

// half is the value of an IEEE 754 binary16.
func half(bits uint16) float64 {
	sign, exponent, fraction := 1.0, int(bits>>10&0x1f), float64(bits&0x3ff)
	if bits>>15 == 1 {
		sign = -1
	}
	switch exponent {
	case 0:
		return sign * math.Ldexp(fraction, -24)
	case 0x1f:
		if fraction != 0 {
			return math.NaN()
		}
		return sign * math.Inf(1)
	}
	return sign * math.Ldexp(1+fraction/1024, exponent-15)
}
