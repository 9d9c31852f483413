package onnx_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/model"
)

func TestLoadReadsTheSignature(t *testing.T) {
	rt := open(t)
	tests := []struct{ file, want string }{
		{"identity_fp32", "[x FP32 [-1,3]] [y FP32 [-1,3]] true"},
		{"identity_bytes", "[x BYTES [-1,3]] [y BYTES [-1,3]] true"},
		{"two_inputs", "[a FP32 [-1,2] b INT64 [-1,1]] [sum FP32 [-1,2]] true"},
		{"two_outputs", "[x FP32 [-1,2]] [plus_one FP32 [-1,2] above_one BOOL [-1,2]] true"},
		{"sequence_length", "[x FP32 [-1,-1]] [twice FP32 [-1,-1] total FP32 [-1]] true"},
		{"fixed", "[x FP32 [2,2]] [y FP32 [2,2]] false"},
		{"scalars", "[x FP32 [2] k FP32 []] [y FP32 [2] total FP32 []] false"},
		{"weight_among_inputs", "[x FP32 [-1,2]] [y FP32 [-1,2]] true"},
		{"output_without_shape", "[x FP32 [-1,2]] [y FP32 [-1,2]] true"},
		{"output_without_type", "[x FP32 [-1,2]] [y FP32 [-1,2]] true"},
		{"external", "[x FP32 [-1,512]] [y FP32 [-1,512]] true"},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			m, err := rt.Load(t.Context(), version(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			info := m.Info()
			if got := fmt.Sprint(info.Signature.Inputs, info.Signature.Outputs, info.Signature.Batchable); got != tt.want {
				t.Errorf("signature %s, want %s", got, tt.want)
			}
			if err := info.Validate(); err != nil {
				t.Error(err)
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLoadTakesTheManifest(t *testing.T) {
	rt := open(t)
	v := version("two_outputs")
	v.Name, v.Version = "adder", "7"
	v.Manifest.Description, v.Manifest.Prediction, v.Manifest.Batching.MaxRows = "adds one", "above_one", 16
	m, err := rt.Load(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	info := m.Info()
	content, err := os.ReadFile(v.Path)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(content)
	if info.Key() != "adder/7" || info.Platform != model.PlatformONNX || info.Description != "adds one" ||
		info.MaxRows != 16 || info.PredictionIndex() != 1 || info.Digest != hex.EncodeToString(digest[:]) {
		t.Errorf("info is %+v", info)
	}

	v.Manifest.Prediction = "nothing"
	if _, err := rt.Load(t.Context(), v); err == nil || !strings.Contains(err.Error(), `expected one of "plus_one", "above_one"`) {
		t.Errorf("a prediction that is no output gives %v", err)
	}
	fixed := version("fixed")
	m, err = rt.Load(t.Context(), fixed)
	if err != nil {
		t.Fatal(err)
	}
	if rows := m.Info().MaxRows; rows != 1 {
		t.Errorf("a model that cannot be batched runs %d rows", rows)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rt.Load(canceled, fixed); !errors.Is(err, context.Canceled) {
		t.Errorf("Load with an ended context gives %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	rt := open(t)
	tests := []struct {
		file string
		want []string
	}{
		{"zipmap", []string{`output "y" is a sequence of maps`, "re-export with skl2onnx options={'zipmap': False}"}},
		{"sequence", []string{`output "y" is a sequence`, "re-export"}},
		{"optional", []string{`output "y" is optional`, "re-export"}},
		{"complex", []string{`input "x" has the datatype complex64`, `output "y" has`, "Cast"}},
		{"float8", []string{`input "x" has the datatype float8`, "Cast"}},
		{"free_fp16", []string{`output "y" is FP16`, "[-1,-1]", "keep_io_types=True"}},
		{"scalar_bf16", []string{`input "x" is a scalar of BF16`, "shape [1]"}},
		{"input_without_shape", []string{`input "x" has no shape`, "infer_shapes"}},
		{"passed_through_scalar", []string{`output "x" is an input passed through`, "without this output"}},
		{"opset_too_new", []string{"uses opset 99", "lower opset_version"}},
		{"ir_too_new", []string{"IR version 99", "model.ir_version"}},
		{"unknown_operator", []string{"NoSuchOperator", "custom operators"}},
		{"not_there", []string{"no such file"}},
	}
	for _, tt := range tests {
		t.Run(tt.file, func(t *testing.T) {
			m, err := rt.Load(t.Context(), version(tt.file))
			if err == nil {
				t.Fatalf("it was loaded: %+v", m.Info())
			}
			for _, want := range append(tt.want, tt.file+".onnx", "test/1") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

func TestLoadRefusesFilesThatAreNoModel(t *testing.T) {
	rt := open(t)
	external, err := os.ReadFile("testdata/external.onnx")
	if err != nil {
		t.Fatal(err)
	}
	mlp, err := os.ReadFile("testdata/mlp.onnx")
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		path string
		want string
	}{
		{"empty", writeFile(t, "model.onnx", nil), "the file is empty"},
		{"directory", t.TempDir(), "no regular file"},
		{"text", writeFile(t, "model.onnx", []byte("hello, I am a model\n")), "not an ONNX model"},
		{"pointer of Git LFS", writeFile(t, "model.onnx", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")), "git lfs pull"},
		{"no graph", writeFile(t, "model.onnx", []byte{8, 10}), "no graph"},
		{"half", writeFile(t, "model.onnx", mlp[:len(mlp)/2]), "not an ONNX model"},
		{"weights not beside it", writeFile(t, "model.onnx", external), "external.weights, is not beside it"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := version("")
			v.Path = tt.path
			_, err := rt.Load(t.Context(), v)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %v: want %q and the file", err, tt.want)
			}
		})
	}
}

// A damaged file may load or not, but must not end the process.
func TestLoadSurvivesDamage(t *testing.T) {
	rt := open(t)
	good, err := os.ReadFile("testdata/sequence_length.onnx")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "model.onnx")
	v := version("")
	v.Path = path
	try := func(content []byte) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := rt.Load(t.Context(), v); err == nil {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	for n := range good {
		try(good[:n])
	}
	for i := range good {
		for _, flip := range []byte{0x01, 0x80} {
			damaged := append([]byte(nil), good...)
			damaged[i] ^= flip
			try(damaged)
		}
	}
}
