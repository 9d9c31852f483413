package onnx_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/model/onnx"
)

func TestOpen(t *testing.T) {
	rt := open(t)
	if got := rt.Version(); got != onnx.LibraryVersion {
		t.Errorf("version %s, want %s", got, onnx.LibraryVersion)
	}
	if filepath.Dir(rt.Library()) != filepath.Clean(libraryDir) {
		t.Errorf("the library is %s, want one in %s", rt.Library(), libraryDir)
	}
	if second, err := onnx.Open(onnx.DefaultConfig()); err == nil || !strings.Contains(err.Error(), "open already") {
		t.Errorf("a second Open gives %v, %v", second, err)
	}
}

func TestOpenAgainAfterClose(t *testing.T) {
	for range 3 {
		rt, err := onnx.Open(onnx.Config{Library: library(t)})
		if err != nil {
			t.Fatal(err)
		}
		_, in := load(t, rt, "fixed")
		if _, err := in.Run(t.Context(), batch(1, input([]int64{2, 2}, floats(1, 2, 3, 4)))); err != nil {
			t.Fatal(err)
		}
		if err := rt.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	real, err := os.ReadFile(library(t))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name    string
		library string
		want    []string
	}{
		{"missing file", filepath.Join(t.TempDir(), "nowhere.so"), []string{"nowhere.so", "no such file", "--onnxruntime-lib"}},
		{"directory without it", t.TempDir(), []string{"ONNX Runtime " + onnx.LibraryVersion + " was not found; looked for", "run `make deps` or set --onnxruntime-lib"}},
		{"text file", writeFile(t, "text.so", []byte("not a library")), []string{"text.so", "make deps"}},
		{"empty file", writeFile(t, "empty.so", nil), []string{"empty.so", "make deps"}},
		{"cut short", writeFile(t, "short.so", real[:len(real)/2]), []string{"short.so is not a shared library, or cut short", "make deps"}},
		{"another library", compile(t, "int nothing_of_interest(void) { return 0; }"), []string{"not ONNX Runtime", "OrtGetApiBase", "make deps"}},
		{"too old", compile(t, oldLibrary), []string{"is older than ONNX Runtime 1.26", "make deps"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rt, err := onnx.Open(onnx.Config{Library: tt.library})
			if err == nil {
				_ = rt.Close()
				t.Fatal("it was opened")
			}
			if !errors.Is(err, onnx.ErrNoLibrary) {
				t.Errorf("%v is not ErrNoLibrary", err)
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
		})
	}
}

// oldLibrary has the entry point of ONNX Runtime, but not the version of the API that is asked for.
const oldLibrary = `
#include <stddef.h>
static const void *get_api(unsigned version) { (void)version; return NULL; }
static const char *get_version(void) { return "1.10.0"; }
static struct { const void *(*get_api)(unsigned); const char *(*get_version)(void); } base = { get_api, get_version };
void *OrtGetApiBase(void) { return &base; }
`

// compile makes a shared library with the C compiler that cgo uses.
func compile(t *testing.T, source string) string {
	t.Helper()
	cc, err := exec.CommandContext(t.Context(), "go", "env", "CC").Output()
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "library.c", []byte(source))
	lib := strings.TrimSuffix(file, ".c") + ".so"
	if out, err := exec.CommandContext(t.Context(), strings.TrimSpace(string(cc)), "-shared", "-fPIC", "-o", lib, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return lib
}

func TestFindLibrary(t *testing.T) {
	dir := t.TempDir()
	want := library(t)
	link := filepath.Join(dir, filepath.Base(want))
	absolute, err := filepath.Abs(want)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(absolute, link); err != nil {
		t.Fatal(err)
	}
	for _, hint := range []string{link, dir} {
		if got, err := onnx.FindLibrary("", hint); err != nil || got != link {
			t.Errorf("FindLibrary(%q) = %q, %v, want %q", hint, got, err, link)
		}
	}
}

func TestCloseEndsEverything(t *testing.T) {
	rt, err := onnx.Open(onnx.Config{Library: library(t)})
	if err != nil {
		t.Fatal(err)
	}
	m, in := load(t, rt, "fixed")
	for range 2 {
		if err := rt.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := in.Run(t.Context(), batch(1, input([]int64{2, 2}, floats(1, 2, 3, 4)))); err == nil {
		t.Error("an instance runs after its runtime is closed")
	}
	if _, err := m.NewInstance(); err == nil {
		t.Error("a model gives instances after its runtime is closed")
	}
	if _, err := rt.Load(t.Context(), version("fixed")); err == nil {
		t.Error("a closed runtime loads")
	}
	if err := errors.Join(in.Close(), m.Close()); err != nil {
		t.Errorf("closing again: %v", err)
	}
}
