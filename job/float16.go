package job

import "math"

// half returns the nearest FP16 as its bits, ties to even, false if the number is too large for one.
func half(f float64) (bits uint16, ok bool) {
	const (
		mantissa = 10
		minNorm  = 0x1p-14
		minSub   = 0x1p-24
		overflow = 65520 // half-way between the largest FP16 and what would follow it
	)
	sign := uint16(math.Float64bits(f) >> 63 << 15)
	a := math.Abs(f)
	switch {
	case a >= overflow || a != a: //nolint:gocritic // NaN
		return 0, false
	case a < minNorm:
		return sign | uint16(math.RoundToEven(a/minSub)), true // carries into the least normal number by itself
	}
	frac, exp := math.Frexp(a) // a = frac * 2^exp, frac in [0.5, 1)
	m := uint16(math.RoundToEven(math.Ldexp(frac, mantissa+1)))
	return sign | uint16(exp+13)<<mantissa + m, true //nolint:gosec // the leading bit of m adds the missing 1 to the exponent
}

// halfValue is the inverse of half. Every FP16 is a float32.
func halfValue(bits uint16) float32 {
	exp, frac := int(bits>>10&0x1f), float64(bits&0x3ff)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 0x1f:
		f = math.Inf(1)
		if frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	if bits>>15 != 0 {
		f = math.Copysign(f, -1)
	}
	return float32(f)
}

// brain returns the nearest BF16 as its bits, ties to even, false if the number is too large for one. BF16 is the upper
// half of a float32.
func brain(f float64) (bits uint16, ok bool) {
	const below = 1<<45 - 1 // bits of a float64 under those of a BF16
	b := math.Float64bits(f)
	if a := math.Abs(f); a >= 0x1p-126 {
		// Round in the float64: add half a unit, or a hair less if that would leave an even number.
		b += below>>1 + b>>45&1
		f = math.Float64frombits(b &^ below)
		wide := math.Float32bits(float32(f))
		return uint16(wide >> 16), !math.IsInf(float64(float32(f)), 0)
	}
	sign := uint16(b >> 63 << 15)
	return sign | uint16(math.RoundToEven(math.Abs(f)/0x1p-133)), true // subnormal, as in half
}

// brainValue is the inverse of brain.
func brainValue(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }
