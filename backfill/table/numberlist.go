package table

import (
	"encoding/binary"
	"math"

	"github.com/sheafml/sheaf/job"
)

// numberList reads arrays of numbers, nested or not, straight into raw data. It is the quick way; what it does not take is
// for job.ScanArray.
type numberList struct {
	dt   job.Datatype
	src  []byte
	data []byte
	rank int
	dims [8]int64 // -1 until the first array of that depth is complete
}

// read reads the array at src[i:] and returns where it ends, -1 if it is not of the kind.
func (l *numberList) read(i int) int {
	l.rank = 0
	for d := range l.dims {
		l.dims[d] = -1
	}
	return l.array(i, 0)
}

func (l *numberList) array(i, depth int) int {
	if depth >= len(l.dims) || l.rank > 0 && depth >= l.rank {
		return -1
	}
	i = skipSpace(l.src, i+1)
	n := int64(0)
	if i < len(l.src) && l.src[i] == '[' {
		for {
			if i >= len(l.src) || l.src[i] != '[' {
				return -1
			}
			if i = l.array(i, depth+1); i < 0 {
				return -1
			}
			n++
			i = skipSpace(l.src, i)
			if i >= len(l.src) || l.src[i] != ',' {
				break
			}
			i = skipSpace(l.src, i+1)
		}
	} else {
		if l.rank > 0 && depth+1 != l.rank {
			return -1
		}
		l.rank = depth + 1
		if i, n = l.flat(i); i < 0 {
			return -1
		}
	}
	if i >= len(l.src) || l.src[i] != ']' || l.dims[depth] >= 0 && l.dims[depth] != n {
		return -1
	}
	l.dims[depth] = n
	return i + 1
}

// flat reads the numbers of an array and returns where it ends, before the bracket, and how many there are.
func (l *numberList) flat(i int) (end int, n int64) {
	src, data := l.src, l.data
	for {
		quick := false
		if l.dt == job.FP32 {
			var bits uint32
			if bits, end = shortFloat(src, i); end > 0 {
				data = binary.LittleEndian.AppendUint32(data, bits)
				i, quick = end, true
			}
		}
		if !quick {
			if data, i = appendNumber(data, l.dt, src, i); i < 0 {
				return -1, 0
			}
		}
		n++
		if i < len(src) && src[i] <= ' ' {
			i = skipSpace(src, i)
		}
		if i >= len(src) || src[i] != ',' {
			l.data = data
			return i, n
		}
		i++
		if i < len(src) && src[i] <= ' ' {
			i = skipSpace(src, i)
		}
	}
}

// shortPowers are powers of ten that a float32 holds exactly.
var shortPowers = [...]float32{1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10}

// shortFloat reads a number of few digits at src[i:] as a float32, as most numbers are: one division of exact operands
// gives the nearest. It returns where the number ends, 0 if it is not of the kind.
func shortFloat(src []byte, i int) (bits uint32, end int) {
	sign := uint32(0)
	if i < len(src) && src[i] == '-' {
		sign = 1 << 31
		i++
	}
	first, digits := i, uint32(0)
	for i < len(src) && src[i]-'0' <= 9 {
		digits = digits*10 + uint32(src[i]-'0')
		i++
	}
	used := i - first
	if used == 0 || used > 1 && src[first] == '0' {
		return 0, 0
	}
	fraction := 0
	if i < len(src) && src[i] == '.' {
		i++
		first = i
		for i < len(src) && src[i]-'0' <= 9 {
			digits = digits*10 + uint32(src[i]-'0')
			i++
		}
		if fraction = i - first; fraction == 0 {
			return 0, 0
		}
	}
	if used+fraction > 9 || digits >= 1<<24 || i < len(src) && src[i]|0x20 == 'e' {
		return 0, 0
	}
	f := float32(digits)
	if fraction > 0 {
		f /= shortPowers[fraction]
	}
	return math.Float32bits(f) | sign, i
}

func skipSpace(src []byte, i int) int {
	for i < len(src) && (src[i] == ' ' || src[i] == '\t' || src[i] == '\n' || src[i] == '\r') {
		i++
	}
	return i
}
