package model_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/model"
)

// repository makes a repository of files with their contents.
func repository(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o750); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func keys(versions []model.Version) []string {
	var list []string
	for _, v := range versions {
		list = append(list, v.String())
	}
	return list
}

func TestScan(t *testing.T) {
	dir := repository(t, map[string]string{
		"README.md":             "about the models",
		".hidden/1/model.onnx":  "",
		"lost+found/":           "",
		"digits/model.yaml":     "batching: {max_rows: 8}",
		"digits/README.md":      "a model card",
		"digits/9/model.onnx":   "",
		"digits/10/model.onnx":  "",
		"digits/10/weights.bin": "",
		"digits/.cache/x":       "",
		"spam-filter.v2.onnx":   "",
		"a/1/model.onnx":        "",
	})
	if err := os.Symlink(filepath.Join(dir, "digits"), filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	versions, err := model.Scan(dir)
	if err != nil {
		t.Error(err)
	}
	want := []string{"a/1", "digits/9", "digits/10", "linked/9", "linked/10", "spam-filter.v2/1"}
	if diff := cmp.Diff(want, keys(versions)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a/1", "digits/10", "linked/10", "spam-filter.v2/1"}, keys(model.Latest(versions))); diff != "" {
		t.Error(diff)
	}
	if v := versions[2]; v.Path != filepath.Join(dir, "digits", "10", "model.onnx") || v.Manifest.Batching.MaxRows != 8 {
		t.Errorf("got %+v", v)
	}
	if v := versions[5]; v.Path != filepath.Join(dir, "spam-filter.v2.onnx") || v.Manifest.Batching.MaxRows != 64 {
		t.Errorf("got %+v", v)
	}
}

func TestScanKeepsTheGoodBesideTheBad(t *testing.T) {
	tests := []struct {
		name string
		file string
		want string
	}{
		{"a name with a space", "my model/1/model.onnx", "my model: a model's name has"},
		{"a bare file with a bad name", "-x.onnx", "-x.onnx: a model's name has"},
		{"a version that is no number", "bad/v1/model.onnx", "bad/v1: expected a version's directory, named by a positive integer"},
		{"version zero", "bad/0/model.onnx", "bad/0: expected"},
		{"a version with a leading zero", "bad/01/model.onnx", "bad/01: expected"},
		{"no version", "bad/model.txt", "bad: expected a version such as bad/1/model.onnx, there is none"},
		{"a file without its version", "bad/model.onnx", "bad/model.onnx: expected it in a version's directory: move it to"},
		{"an empty version", "bad/1/", "bad/1: expected the file model.onnx, the directory is empty"},
		{"another file name", "bad/1/net.onnx", "bad/1: expected the file model.onnx, found net.onnx"},
		{"a directory in its place", "bad/1/model.onnx/x", "bad/1: expected the file model.onnx, found model.onnx"},
		{"settings under another name", "bad/model.yml", "bad/model.yml: the settings of a model are read from model.yaml"},
		{"another format", "net.pt", "net.pt: Sheaf runs ONNX files: export the model to net.onnx"},
		{"the model twice", "good.onnx", "good.onnx: the directory good/ is the same model"},
		{"bad settings", "bad/model.yaml", "bad/model.yaml: line 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := repository(t, map[string]string{"good/1/model.onnx": "", tt.file: "nonsense: 1"})
			versions, err := model.Scan(dir)
			if diff := cmp.Diff([]string{"good/1"}, keys(versions)); diff != "" {
				t.Error(diff)
			}
			if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestScanReportsEveryFault(t *testing.T) {
	dir := repository(t, map[string]string{"a b.onnx": "", "bad/x/model.onnx": "", "bad/2/model.onnx": "", "net.pkl": ""})
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	versions, err := model.Scan(dir)
	if diff := cmp.Diff([]string{"bad/2"}, keys(versions)); diff != "" {
		t.Error(diff)
	}
	for _, want := range []string{"a b.onnx", "bad/x", "net.pkl", "dangling"} {
		if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, want)) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestScanNoRepository(t *testing.T) {
	if _, err := model.Scan(filepath.Join(t.TempDir(), "models")); err == nil || !strings.Contains(err.Error(), "is not there: expected a directory with <name>/<version>/model.onnx") {
		t.Errorf("got %v", err)
	}
	if versions, err := model.Scan(t.TempDir()); err != nil || len(versions) > 0 {
		t.Errorf("an empty repository gives %v, %v", versions, err)
	}
	file := filepath.Join(repository(t, map[string]string{"a.onnx": ""}), "a.onnx")
	if _, err := model.Scan(file); err == nil {
		t.Error("a file is a repository")
	}
}
