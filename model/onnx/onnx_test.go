package onnx_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
)

// libraryDir is where `make deps` puts ONNX Runtime.
const libraryDir = "../../bin/lib"

// open opens ONNX Runtime for one test. There can be one in a process, so the tests of this package run one by one.
func open(t testing.TB) *onnx.Runtime {
	t.Helper()
	rt, err := onnx.Open(onnx.Config{Library: library(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

func library(t testing.TB) string {
	t.Helper()
	path, err := onnx.FindLibrary(libraryDir)
	if err != nil {
		t.Fatalf("%v\nrun make deps", err)
	}
	return path
}

// version is the model of a file of testdata.
func version(file string) model.Version {
	return model.Version{Name: "test", Version: "1", Path: filepath.Join("testdata", file+".onnx"), Manifest: model.DefaultManifest()}
}

// load loads a file of testdata and makes one instance of it.
func load(t testing.TB, rt *onnx.Runtime, file string) (*onnx.Model, *onnx.Instance) {
	t.Helper()
	m, err := rt.Load(t.Context(), version(file))
	if err != nil {
		t.Fatal(err)
	}
	in, err := m.NewInstance()
	if err != nil {
		t.Fatal(err)
	}
	return m, in
}

// input is one input of a batch, in one or several parts.
func input(shape []int64, parts ...[]byte) model.BatchInput {
	return model.BatchInput{Shape: shape, Parts: parts}
}

func batch(rows int, inputs ...model.BatchInput) *model.Batch {
	return &model.Batch{Rows: rows, Inputs: inputs}
}

// floats is the raw data of FP32 values.
func floats(values ...float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// integers is the raw data of INT64 values.
func integers(values ...int64) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint64(b, uint64(v))
	}
	return b
}

// texts is the raw data of BYTES elements.
func texts(values ...string) []byte {
	var b []byte
	for _, v := range values {
		b = job.AppendBytesElement(b, []byte(v))
	}
	return b
}

func parseFloats(t testing.TB, data []byte) []float32 {
	t.Helper()
	if len(data)%4 != 0 {
		t.Fatalf("%d bytes are no FP32 values", len(data))
	}
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values
}

func writeFile(t testing.TB, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
