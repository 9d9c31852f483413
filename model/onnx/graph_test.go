package onnx

import (
	"os"
	"path/filepath"
	"testing"
)

// A file from anywhere must give a graph or an error, and what is taken for a signature must be one.
func FuzzReadGraph(f *testing.F) {
	files, err := filepath.Glob("testdata/*.onnx")
	if err != nil || len(files) == 0 {
		f.Fatalf("no models to begin with: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if len(content) < 1000 {
			f.Add(content)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "model.onnx")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		g, err := readGraph(path)
		if err != nil {
			return
		}
		sig, err := g.signature()
		if err != nil {
			return
		}
		for _, out := range newPlan(g, sig).outputs {
			if out.pass == inBuffer && len(out.measures) != len(out.spec.Shape) {
				t.Errorf("output %s: %d measures for the shape", out.spec, len(out.measures))
			}
		}
	})
}
