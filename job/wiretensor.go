package job

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Field numbers of sheaf.v1.Tensor and sheaf.v1.Parameter; see proto/sheaf/sheaf.proto.
const (
	tensorName     = 1
	tensorDatatype = 2
	tensorShape    = 3
	tensorData     = 4

	parameterName   = 1
	parameterBool   = 2
	parameterInt64  = 3
	parameterDouble = 4
	parameterString = 5
)

// maxParameters bounds the parameters of one request.
const maxParameters = 128

func tensorHint(t *Tensor) int { return 12 + len(t.Name) + 2*len(t.Shape) + len(t.Data) }

// appendTensor appends t as field num, a sheaf.v1.Tensor.
func appendTensor(b []byte, num protowire.Number, t *Tensor) []byte {
	hint := tensorHint(t)
	b, start := beginMessage(b, num, hint)
	b = appendText(b, tensorName, t.Name)
	b = appendUint(b, tensorDatatype, uint64(t.Datatype))
	b = appendPackedShape(b, tensorShape, t.Shape)
	if len(t.Data) > 0 {
		b = protowire.AppendTag(b, tensorData, protowire.BytesType)
		b = protowire.AppendBytes(b, t.Data)
	}
	return endMessage(b, start, hint)
}

// appendPackedShape appends a repeated int64 field, and nothing for no dimensions.
func appendPackedShape(b []byte, num protowire.Number, shape []int64) []byte {
	if len(shape) == 0 {
		return b
	}
	size := 0
	for _, d := range shape {
		size += protowire.SizeVarint(uint64(d)) //nolint:gosec // two's complement is the wire form
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(size))
	for _, d := range shape {
		b = protowire.AppendVarint(b, uint64(d)) //nolint:gosec // as above
	}
	return b
}

// decodeTensor reads a sheaf.v1.Tensor. Its shape is appended to shapes, its data aliases b. Fields of the error are
// relative, such as ".name".
func decodeTensor(b []byte, t *Tensor, shapes *[]int64, names *interner, maxRank int) *Error {
	start := len(*shapes)
	f := fieldReader{rest: b}
	for f.next() {
		switch f.tag {
		case tensorName<<3 | wireBytes:
			name, ok := names.get(f.bytes)
			if !ok {
				return Errorf(CodeMalformed, ".name", "not valid UTF-8")
			}
			t.Name = name
		case tensorDatatype<<3 | wireVarint:
			t.Datatype = Datatype(min(f.num, math.MaxUint8))
		case tensorShape<<3 | wireBytes, tensorShape<<3 | wireVarint:
			if err := appendShape(shapes, start, &f, maxRank); err != nil {
				return err
			}
		case tensorData<<3 | wireBytes:
			t.Data = f.bytes
		}
	}
	if f.bad {
		return Errorf(CodeMalformed, "", "not a valid sheaf.v1.Tensor message")
	}
	t.Shape = (*shapes)[start:len(*shapes):len(*shapes)]
	return nil
}

// appendShape appends the dimensions of one shape field, packed or not, to the shape that begins at start.
func appendShape(shapes *[]int64, start int, f *fieldReader, maxRank int) *Error {
	packed, one := f.bytes, f.tag&7 == wireVarint
	for one || len(packed) > 0 {
		v := f.num
		if !one {
			var n int
			if v, n = protowire.ConsumeVarint(packed); n < 0 {
				return Errorf(CodeMalformed, ".shape", "a dimension is not a valid varint")
			}
			packed = packed[n:]
		}
		if len(*shapes)-start >= maxRank {
			return Invalidf(".shape", "expected at most %d dimensions, the shape has more", maxRank)
		}
		*shapes = append(*shapes, int64(v)) //nolint:gosec // two's complement is the wire form
		if one {
			return nil
		}
	}
	return nil
}

// appendParameter appends p as field num, a sheaf.v1.Parameter. A value of a type that Parameter does not allow is left
// out, so that the reader refuses the job.
func appendParameter(b []byte, num protowire.Number, p *Parameter) []byte {
	text, _ := p.Value.(string)
	hint := 16 + len(p.Name) + len(text)
	b, start := beginMessage(b, num, hint)
	b = appendText(b, parameterName, p.Name)
	switch v := p.Value.(type) {
	case bool:
		b = protowire.AppendTag(b, parameterBool, protowire.VarintType)
		b = protowire.AppendVarint(b, protowire.EncodeBool(v))
	case int64:
		b = protowire.AppendTag(b, parameterInt64, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(v)) //nolint:gosec // two's complement is the wire form
	case float64:
		b = protowire.AppendTag(b, parameterDouble, protowire.Fixed64Type)
		b = protowire.AppendFixed64(b, math.Float64bits(v))
	case string:
		b = protowire.AppendTag(b, parameterString, protowire.BytesType)
		b = protowire.AppendString(b, validUTF8(v))
	}
	return endMessage(b, start, hint)
}

// addParameter reads a sheaf.v1.Parameter and appends it to list.
func addParameter(list *[]Parameter, b []byte, names *interner) *Error {
	if len(*list) >= maxParameters {
		return errParameters()
	}
	var p Parameter
	f := fieldReader{rest: b}
	for f.next() {
		switch f.tag {
		case parameterName<<3 | wireBytes:
			name, ok := names.get(f.bytes)
			if !ok || len(name) > maxText {
				return errText("parameters")
			}
			p.Name = name
		case parameterBool<<3 | wireVarint:
			p.Value = f.num != 0
		case parameterInt64<<3 | wireVarint:
			p.Value = int64(f.num) //nolint:gosec // two's complement is the wire form
		case parameterDouble<<3 | wireFixed64:
			p.Value = math.Float64frombits(f.num)
		case parameterString<<3 | wireBytes:
			if !utf8.Valid(f.bytes) {
				return Errorf(CodeMalformed, "parameters", "a value is not valid UTF-8")
			}
			p.Value = string(f.bytes)
		}
	}
	if f.bad {
		return Errorf(CodeMalformed, "parameters", "not a valid sheaf.v1.Parameter message")
	}
	*list = append(*list, p)
	return nil
}

// sortParameters brings a list of parameters into the order that Job.Parameters promises, and checks it. Fields of the
// error are relative.
func sortParameters(list []Parameter) *Error {
	slices.SortStableFunc(list, func(a, b Parameter) int { return cmp.Compare(a.Name, b.Name) })
	for i, p := range list {
		switch {
		case p.Name == "":
			return Invalidf("", "a parameter needs a name")
		case p.Value == nil:
			return Invalidf("."+excerpt([]byte(p.Name)), "expected a boolean, an integer, a number or a string")
		case i > 0 && list[i-1].Name == p.Name:
			return Invalidf("."+excerpt([]byte(p.Name)), "given twice")
		}
	}
	return nil
}

// checkNames verifies that no input and no requested output is named twice.
func checkNames(j *Job) *Error {
	for i := range j.Inputs {
		for k := range i {
			if j.Inputs[i].Name == j.Inputs[k].Name {
				return Invalidf(at("inputs", i)+".name", "the same name as inputs[%d]; each input is given once", k)
			}
		}
	}
	for i, name := range j.Outputs {
		if name == "" {
			return Invalidf(at("outputs", i)+".name", "an output needs a name")
		}
		for k := range i {
			if name == j.Outputs[k] {
				return Invalidf(at("outputs", i)+".name", "the same name as outputs[%d]; each output is asked for once", k)
			}
		}
	}
	return nil
}

// appendText appends a string field, and nothing for "".
func appendText(b []byte, num protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	b = protowire.AppendTag(b, num, protowire.BytesType)
	return protowire.AppendString(b, validUTF8(s))
}

// validUTF8 returns s with anything that protobuf would refuse in a string replaced.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

func errText(field string) *Error {
	return Errorf(CodeMalformed, field, "expected valid UTF-8 without control characters, at most %d bytes", maxText)
}

func errParameters() *Error {
	return Invalidf("parameters", "expected at most %d parameters", maxParameters)
}

func errTooLarge(size int, lim Limits) *Error {
	return Errorf(CodeTooLarge, "", "expected at most %d bytes, got %d", lim.MaxBytes, size)
}
