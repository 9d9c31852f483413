package onnx

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// LibraryVersion is the version of ONNX Runtime that Sheaf is built and tested with. A newer one works too.
const LibraryVersion = "1.27.0"

// oldestLibrary is the first version that has the API which the binding asks for.
const oldestLibrary = "1.26"

// ErrNoLibrary says that ONNX Runtime was not found, or that what was found is not a usable ONNX Runtime.
var ErrNoLibrary = errors.New("ONNX Runtime is not usable")

// FindLibrary returns the path of the ONNX Runtime library. It looks in this order:
//
//   - each hint that is not empty: a file, or a directory to look in. A hint is an explicit setting: if it is given and
//     leads nowhere, that is an error, and nothing else is tried.
//   - lib/ beside the executable, the executable's own directory, and ../lib
//   - the system's usual directories
//
// The error is ErrNoLibrary, lists where it looked and says what to do.
func FindLibrary(hints ...string) (string, error) {
	var dirs []string
	for _, hint := range hints {
		if hint == "" {
			continue
		}
		info, err := os.Stat(hint)
		if err != nil {
			return "", fmt.Errorf("%w: the library that is set, %s, cannot be opened (%w): correct --onnxruntime-lib, or leave it out to look in the usual places",
				ErrNoLibrary, hint, errors.Unwrap(err))
		}
		if !info.IsDir() {
			return hint, nil
		}
		dirs = append(dirs, hint)
	}
	if len(dirs) == 0 {
		dirs = usualDirs()
	}
	for _, dir := range dirs {
		for _, name := range libraryNames() {
			path := filepath.Join(dir, name)
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%w: ONNX Runtime %s was not found; looked for %s in %s; run `make deps` or set --onnxruntime-lib",
		ErrNoLibrary, LibraryVersion, libraryNames()[0], strings.Join(dirs, ", "))
}

func usualDirs() []string {
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dir := filepath.Dir(exe)
		dirs = append(dirs, filepath.Join(dir, "lib"), dir, filepath.Join(filepath.Dir(dir), "lib"))
	}
	switch runtime.GOOS {
	case "linux":
		dirs = append(dirs, "/usr/local/lib", "/usr/lib", "/usr/lib64")
		if triple := map[string]string{"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}[runtime.GOARCH]; triple != "" {
			dirs = append(dirs, "/usr/lib/"+triple)
		}
		dirs = append(dirs, "/opt/onnxruntime/lib")
	case "darwin":
		dirs = append(dirs, "/opt/homebrew/lib", "/usr/local/lib")
	}
	return dirs
}

// libraryNames are the names of the library's file, the exact version first.
func libraryNames() []string {
	switch runtime.GOOS {
	case "windows":
		return []string{"onnxruntime.dll"}
	case "darwin":
		return []string{"libonnxruntime." + LibraryVersion + ".dylib", "libonnxruntime.dylib"}
	default:
		return []string{"libonnxruntime.so." + LibraryVersion, "libonnxruntime.so.1", "libonnxruntime.so"}
	}
}

// checkLibrary refuses a file that the dynamic loader must not be given: mapping a shared library that was cut short, for
// example by a download that broke off, ends the process with SIGBUS. The end of a library has its table of sections.
func checkLibrary(path string) error {
	if runtime.GOOS != "linux" {
		return nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%w: %s is not a shared library, or cut short (%w): run `make deps` again or correct --onnxruntime-lib", ErrNoLibrary, path, err)
	}
	return f.Close()
}
