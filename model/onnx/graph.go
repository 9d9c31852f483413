package onnx

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// graph is what an ONNX file says of itself, without its nodes and weights.
type graph struct {
	irVersion int64
	opset     int64 // of the default domain, 0 if it is not named
	inputs    []value
	outputs   []value
	external  []string // files beside the model that have weights
	digest    string   // sha256 of the file, hex

	present      bool // the file has a graph at all
	initializers map[string]bool
}

// value is an input or an output of a graph.
type value struct {
	name     string
	kind     valueKind
	elem     int64 // of a tensor: the ONNX number of its datatype, 0 if the file does not say
	hasShape bool
	shape    []dim
}

// dim is a dimension: a number, or -1 with the symbol that stands for it, which may be empty.
type dim struct {
	size   int64
	symbol string
}

type valueKind int

const (
	kindUnknown valueKind = iota
	kindTensor
	kindSequence
	kindSequenceOfMaps
	kindMap
	kindOptional
	kindSparse
	kindOpaque
)

// readGraph reads the file and its digest in one pass. It trusts nothing: a file that is no ONNX model is an error that
// says what it looks like instead.
func readGraph(path string) (*graph, error) {
	f, err := os.Open(path) //nolint:gosec // the operator chooses the model repository
	if err != nil {
		return nil, fmt.Errorf("open the model: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("open the model: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: expected an ONNX file, this is no regular file", path)
	case info.Size() == 0:
		return nil, fmt.Errorf("%s: the file is empty: export or copy the model again", path)
	}
	hash := sha256.New()
	r := bufio.NewReaderSize(io.TeeReader(f, hash), 1<<16)
	if head, _ := r.Peek(64); bytes.HasPrefix(head, []byte("version https://git-lfs")) {
		return nil, fmt.Errorf("%s: this is a pointer of Git LFS, not the model: run `git lfs pull`", path)
	}
	g := &graph{initializers: make(map[string]bool)}
	s := &skimmer{r: r}
	if err := g.readModel(s, info.Size()); err != nil {
		return nil, fmt.Errorf("%s: not an ONNX model, or the file is damaged (%w): export or copy it again", path, err)
	}
	if !g.present {
		return nil, fmt.Errorf("%s: not an ONNX model: the file has no graph", path)
	}
	g.digest = hex.EncodeToString(hash.Sum(nil))
	g.inputs = slices.DeleteFunc(g.inputs, func(v value) bool { return g.initializers[v.name] })
	for _, name := range g.external {
		if !filepath.IsLocal(name) {
			return nil, fmt.Errorf("%s: its weights are said to be in %q: expected a file beside the model", path, name)
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(path), name)); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("%s: the file with its weights, %s, is not beside it: copy it there too", path, name)
		}
	}
	return g, nil
}

// The numbers of the fields that matter, from onnx.proto: ModelProto, GraphProto, and so on down.
func (g *graph) readModel(s *skimmer, size int64) error {
	return s.message(size, func(f protoField) error {
		switch {
		case f.number == 1 && f.wire == wireVarint:
			g.irVersion = int64(f.varint) //nolint:gosec // only shown
		case f.number == 7 && f.wire == wireBytes:
			g.present = true
			return g.readGraphProto(s, f.size)
		case f.number == 8 && f.wire == wireBytes:
			return g.readOpset(s, f.size)
		}
		return nil
	})
}

func (g *graph) readOpset(s *skimmer, size int64) error {
	domain, version := "", int64(0)
	err := s.message(size, func(f protoField) (err error) {
		switch {
		case f.number == 1:
			domain, err = s.text(f)
		case f.number == 2 && f.wire == wireVarint:
			version = int64(f.varint) //nolint:gosec // only shown
		}
		return err
	})
	if domain == "" || domain == "ai.onnx" {
		g.opset = version
	}
	return err
}

func (g *graph) readGraphProto(s *skimmer, size int64) error {
	return s.message(size, func(f protoField) error {
		if f.wire != wireBytes {
			return nil
		}
		switch f.number {
		case 5:
			return g.readInitializer(s, f.size)
		case 15: // sparse: its values are a tensor with the name
			return s.message(f.size, func(f protoField) error {
				if f.number == 1 && f.wire == wireBytes {
					return g.readInitializer(s, f.size)
				}
				return nil
			})
		case 11:
			v, err := readValue(s, f.size)
			g.inputs = append(g.inputs, v)
			return err
		case 12:
			v, err := readValue(s, f.size)
			g.outputs = append(g.outputs, v)
			return err
		}
		return nil
	})
}

// readInitializer notes the name of a weight, because old files list weights among the inputs, and its external file.
func (g *graph) readInitializer(s *skimmer, size int64) error {
	return s.message(size, func(f protoField) error {
		switch {
		case f.number == 8:
			name, err := s.text(f)
			g.initializers[name] = true
			return err
		case f.number == 13 && f.wire == wireBytes:
			return g.readExternal(s, f.size)
		}
		return nil
	})
}

func (g *graph) readExternal(s *skimmer, size int64) error {
	var key, text string
	err := s.message(size, func(f protoField) (err error) {
		switch f.number {
		case 1:
			key, err = s.text(f)
		case 2:
			text, err = s.text(f)
		}
		return err
	})
	if key == "location" && !slices.Contains(g.external, text) {
		g.external = append(g.external, text)
	}
	return err
}

// readValue reads a ValueInfoProto.
func readValue(s *skimmer, size int64) (value, error) {
	var v value
	err := s.message(size, func(f protoField) (err error) {
		switch {
		case f.number == 1:
			v.name, err = s.text(f)
		case f.number == 2 && f.wire == wireBytes:
			err = v.readType(s, f.size)
		}
		return err
	})
	return v, err
}

// readType reads a TypeProto.
func (v *value) readType(s *skimmer, size int64) error {
	return s.message(size, func(f protoField) error {
		if f.wire != wireBytes {
			return nil
		}
		switch f.number {
		case 1:
			v.kind = kindTensor
			return v.readTensorType(s, f.size)
		case 4:
			v.kind = kindSequence
			return v.readSequenceType(s, f.size)
		case 5:
			v.kind = kindMap
		case 7:
			v.kind = kindOpaque
		case 8:
			v.kind = kindSparse
		case 9:
			v.kind = kindOptional
		}
		return nil
	})
}

func (v *value) readSequenceType(s *skimmer, size int64) error {
	return s.message(size, func(f protoField) error {
		if f.number != 1 || f.wire != wireBytes {
			return nil
		}
		return s.message(f.size, func(f protoField) error {
			if f.number == 5 {
				v.kind = kindSequenceOfMaps
			}
			return nil
		})
	})
}

func (v *value) readTensorType(s *skimmer, size int64) error {
	return s.message(size, func(f protoField) error {
		switch {
		case f.number == 1 && f.wire == wireVarint:
			v.elem = int64(f.varint) //nolint:gosec // an unknown number is refused
		case f.number == 2 && f.wire == wireBytes:
			v.hasShape = true
			return s.message(f.size, func(f protoField) error {
				if f.number != 1 || f.wire != wireBytes {
					return nil
				}
				d, err := readDim(s, f.size)
				v.shape = append(v.shape, d)
				return err
			})
		}
		return nil
	})
}

func readDim(s *skimmer, size int64) (dim, error) {
	d := dim{size: -1}
	err := s.message(size, func(f protoField) (err error) {
		switch {
		case f.number == 1 && f.wire == wireVarint:
			d.size = max(-1, int64(f.varint)) //nolint:gosec // some exporters write -1 for a dimension that varies
		case f.number == 2:
			d.symbol, err = s.text(f)
		}
		return err
	})
	return d, err
}
