package main

import (
	"fmt"
	"math/rand/v2"
)

// fault is what is wrong with a row that was made bad on purpose.
type fault string

const (
	faultShort   fault = "short"    // an element too few
	faultLong    fault = "long"     // an element too many
	faultText    fault = "text"     // text in the place of a number
	faultNull    fault = "null"     // nothing in the place of the elements
	faultHole    fault = "hole"     // nothing in the place of one
	faultNotJSON fault = "not JSON" // a line that was cut off
)

// faultsOf lists what can be wrong in a file of the form: a Parquet column has only numbers, a table of one column for
// each pixel has a fixed number of them.
func faultsOf(form rowForm) []fault {
	switch {
	case form.format == formatJSONL && !form.wide:
		return []fault{faultShort, faultLong, faultText, faultNull, faultHole, faultNotJSON}
	case form.format == formatJSONL:
		return []fault{faultText, faultHole, faultNotJSON}
	case form.format == formatCSV:
		return []fault{faultShort, faultLong, faultText, faultHole}
	case form.wide:
		return []fault{faultHole}
	default:
		return []fault{faultShort, faultLong, faultNull, faultHole}
	}
}

// manyRows makes as many digits rows as are wanted of the held-out ones: row n is the same each time, and differs from all
// others by some noise.
type manyRows struct {
	base [][rowWidth]uint8
	seed uint64
	bad  float64 // the share of bad rows
	kind []fault // that occur

	random *rand.PCG
}

// maxPixel is the greatest value of a pixel.
const maxPixel = 16

// noisyPixels is how many pixels of a row are changed.
const noisyPixels = 6

func newManyRows(heldOut string, seed uint64, bad float64, form rowForm) (*manyRows, error) {
	rows, err := loadRows(heldOut)
	if err != nil {
		return nil, err
	}
	m := &manyRows{seed: seed, bad: bad, kind: faultsOf(form), random: rand.NewPCG(0, 0)}
	for i := range rows {
		var pixels [rowWidth]uint8
		for k, v := range floats(rows[i].data) {
			if v < 0 || v > maxPixel || v != float32(uint8(v)) {
				return nil, fmt.Errorf("%s: row %d: pixel %d is %g: expected a whole number from 0 to %d", heldOut, i+1, k, v, maxPixel)
			}
			pixels[k] = uint8(v)
		}
		m.base = append(m.base, pixels)
	}
	return m, nil
}

// row makes row n, from 0; fault is empty if it is a good one.
func (m *manyRows) row(n int64, pixels *[rowWidth]uint8) fault {
	m.random.Seed(m.seed, uint64(n)) //nolint:gosec // not negative
	*pixels = m.base[n%int64(len(m.base))]
	for range noisyPixels {
		r := m.random.Uint64()
		at := r % rowWidth
		// One more or one less: what a scanner would do.
		if r>>32&1 == 0 {
			pixels[at] = min(pixels[at]+1, maxPixel)
		} else {
			pixels[at] -= min(pixels[at], 1)
		}
	}
	if m.bad == 0 || float64(m.random.Uint64()>>11)/(1<<53) >= m.bad {
		return ""
	}
	return m.kind[m.random.Uint64()%uint64(len(m.kind))]
}
