package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

const (
	asynqModule = "github.com/hibiken/asynq"
	unknown     = "unknown"
)

// facts say on what the figures were measured.
type facts struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"` // that this program may use
	OS    string `json:"os"`
	Go    string `json:"go"`
	Sheaf string `json:"sheaf"`
	NATS  string `json:"nats"`
	Redis string `json:"redis"`
	ORT   string `json:"onnxruntime"`
	Asynq string `json:"asynq"`
}

// gatherFacts asks the machine and the programs. What cannot be found out is "unknown".
func gatherFacts(ctx context.Context, cfg *labSettings, library string) facts {
	return facts{
		CPU: cpuModel(), Cores: runtime.GOMAXPROCS(0), OS: runtime.GOOS + "/" + runtime.GOARCH,
		Go: strings.TrimPrefix(runtime.Version(), "go"), Sheaf: sheafVersion(ctx, cfg),
		// "nats-server: v2.15.2"
		NATS:  strings.TrimPrefix(lastWord(output(ctx, cfg.natsBinary(), "--version")), "v"),
		Redis: wordAfter(output(ctx, "redis-server", "--version"), "v="),
		ORT:   libraryVersion(library), Asynq: moduleVersion(asynqModule),
	}
}

func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return unknown
	}
	for line := range bytes.Lines(b) {
		if name, value, ok := bytes.Cut(line, []byte(":")); ok && string(bytes.TrimSpace(name)) == "model name" {
			return string(bytes.TrimSpace(value))
		}
	}
	return unknown
}

func sheafVersion(ctx context.Context, cfg *labSettings) string {
	var v struct {
		Version string `json:"version"`
		Commit  string `json:"commit"`
	}
	if err := json.Unmarshal([]byte(output(ctx, cfg.sheafBinary(), "version", "--json")), &v); err != nil || v.Version == "" {
		return unknown
	}
	if v.Commit != "" {
		return fmt.Sprintf("%s (%.12s)", v.Version, v.Commit)
	}
	return v.Version
}

// output runs a program and returns what it printed, or nothing if it failed.
func output(ctx context.Context, program string, args ...string) string {
	b, err := exec.CommandContext(ctx, program, args...).Output() //nolint:gosec // programs of this repository
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func lastWord(s string) string {
	words := strings.Fields(s)
	if len(words) == 0 {
		return unknown
	}
	return words[len(words)-1]
}

// wordAfter returns the rest of the word that begins with prefix.
func wordAfter(s, prefix string) string {
	for word := range strings.FieldsSeq(s) {
		if rest, ok := strings.CutPrefix(word, prefix); ok {
			return rest
		}
	}
	return unknown
}

// libraryVersion reads the version from the name of the file, such as libonnxruntime.so.1.27.0.
func libraryVersion(file string) string {
	name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "libonnxruntime."), ".dylib")
	if name = strings.TrimPrefix(name, "so."); name == "" || name[0] < '0' || name[0] > '9' {
		return unknown
	}
	return name
}

// moduleVersion returns the version of a dependency of this program.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return unknown
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return strings.TrimPrefix(m.Version, "v")
		}
	}
	return unknown
}
