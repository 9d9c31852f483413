package main

import (
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
)

// labSettings say what stands in a lab.
type labSettings struct {
	root string // the repository: bin/ and examples/ are in it

	appendOnly bool
	fsync      string
	keep       bool

	models     []string // directories of the models to serve
	maxRows    int      // batching.max_rows of the models, if it is not to be as they say
	workerArgs []string // further flags of `sheaf worker`
	serveArgs  []string // further flags of `sheaf serve`
}

func defaultLabSettings() labSettings {
	return labSettings{root: "..", appendOnly: true, fsync: "everysec"}
}

// flags adds the flags that every verb has.
func (s *labSettings) flags(fs *flag.FlagSet) {
	fs.StringVar(&s.root, "root", s.root, "the repository, where `make build` and `make deps` have been run")
	fs.BoolVar(&s.appendOnly, "redis-appendonly", s.appendOnly, "run Redis with its append-only file")
	fs.StringVar(&s.fsync, "redis-fsync", s.fsync, "when Redis syncs that file: always, everysec or no")
	fs.BoolVar(&s.keep, "keep", s.keep, "keep the temporary directory with the logs of all processes")
}

func (s *labSettings) validate() error {
	switch s.fsync {
	case "always", "everysec", "no":
		return nil
	default:
		return fmt.Errorf("-redis-fsync is %q: expected always, everysec or no", s.fsync)
	}
}

// The files of the repository that a run needs.
func (s *labSettings) sheafBinary() string { return filepath.Join(s.root, "bin", "sheaf") }
func (s *labSettings) natsBinary() string  { return filepath.Join(s.root, "bin", "nats-server") }
func (s *labSettings) digits() string      { return filepath.Join(s.root, "examples", "models", modelName) }
func (s *labSettings) heldOut() string     { return filepath.Join(s.digits(), "heldout.jsonl") }

// runtimeLibrary finds ONNX Runtime where `make deps` puts it.
func (s *labSettings) runtimeLibrary() (string, error) {
	pattern := "libonnxruntime.so.*"
	if runtime.GOOS == "darwin" {
		pattern = "libonnxruntime*.dylib"
	}
	found, err := filepath.Glob(filepath.Join(s.root, "bin", "lib", pattern))
	if err != nil || len(found) == 0 {
		return "", fmt.Errorf("no ONNX Runtime (%s) in %s: run `make deps`", pattern, filepath.Join(s.root, "bin", "lib"))
	}
	return filepath.Abs(found[len(found)-1])
}
