package model_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/model"
)

func TestParseManifest(t *testing.T) {
	const text = `
description: Handwritten digits
batching:
  max_rows: 128
  max_delay: 2ms
instances: 3
intra_op_threads: 2
memory_arena: false
result_ttl: 1h30m
deadline: 30s
retry:
  max_attempts: 7
  delay: 100ms
  max_delay: 3s
prediction: probabilities
metadata:
  team: vision
  rows: 1797
`
	got, err := model.ParseManifest([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := model.Manifest{
		Description: "Handwritten digits", Batching: model.Batching{MaxRows: 128, MaxDelay: 2 * time.Millisecond},
		Instances: 3, IntraOpThreads: 2, MemoryArena: false, ResultTTL: 90 * time.Minute, Deadline: 30 * time.Second,
		Retry:      model.Retry{MaxAttempts: 7, Delay: 100 * time.Millisecond, MaxDelay: 3 * time.Second},
		Prediction: "probabilities", Metadata: map[string]string{"team": "vision", "rows": "1797"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseManifestDefaults(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "{}", "batching:\n", "description: ~\nmetadata:\n"} {
		got, err := model.ParseManifest([]byte(text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(model.DefaultManifest(), got); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestParseManifestAlias(t *testing.T) {
	got, err := model.ParseManifest([]byte("deadline: &d 30s\nresult_ttl: *d\n"))
	if err != nil || got.ResultTTL != 30*time.Second {
		t.Errorf("got %v, %v", got.ResultTTL, err)
	}
}

func TestParseManifestNamesEveryFault(t *testing.T) {
	const text = `descripton: a slip
batching:
  max_rows: many
  max_wait: 1s
  max_delay: 5
instances: -1
intra_op_threads: 0
memory_arena: perhaps
result_ttl: 1 day
deadline: -1s
deadline: 2s
retry: {max_attempts: 51, attempts: 3, delay: 2s, max_delay: 1s}
prediction: [a, b]
metadata: {team: {name: vision}}
`
	_, err := model.ParseManifest([]byte(text))
	if err == nil {
		t.Fatal("it was accepted")
	}
	want := []string{
		`line 1: unknown key "descripton": expected one of description, batching,`,
		`line 3: batching.max_rows: expected a whole number from 1 to 65536, got "many"`,
		`line 4: batching: unknown key "max_wait": expected one of max_rows, max_delay`,
		`line 5: batching.max_delay: expected a duration such as 250ms, 30s or 1h30m, got "5"`,
		`line 6: instances: expected a whole number from 0`,
		`line 7: intra_op_threads: expected a whole number from 1`,
		`line 8: memory_arena: expected true or false, got "perhaps"`,
		`line 9: result_ttl: expected a duration`,
		`line 10: deadline: expected a duration`,
		`line 11: key "deadline" is there already in line 10`,
		`line 12: retry.max_attempts: expected a whole number from 0 to 50, got "51"`,
		`line 12: retry: unknown key "attempts": expected one of max_attempts, delay, max_delay`,
		`line 12: retry: expected a delay of at most max_delay (1s), got 2s`,
		`line 13: prediction: expected a text`,
		`line 14: metadata.team: expected a text`,
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for i := range min(len(lines), len(want)) {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("fault %d is %q, want %q", i, lines[i], want[i])
		}
	}
}

func TestParseManifestRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"not YAML", "a: [", "not YAML"},
		{"a list", "- a\n", "expected keys and values"},
		{"a text", "hello", "expected keys and values"},
		{"a list for a section", "batching: [1]", "batching: expected keys and values"},
		{"a retry that waits for hours", "retry: {max_delay: 2h}", "at most 1h0m0s"},
		{"two documents", "instances: 1\n---\ninstances: 2\n", "one YAML document"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := model.ParseManifest([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestReadManifest(t *testing.T) {
	dir := t.TempDir()
	if got, err := model.ReadManifest(filepath.Join(dir, "none.yaml")); err != nil || got.Batching.MaxRows != 64 {
		t.Errorf("a file that is not there gives %+v, %v", got, err)
	}
	path := filepath.Join(dir, "model.yaml")
	if err := os.WriteFile(path, []byte("nonsense: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := model.ReadManifest(path); err == nil || !strings.Contains(err.Error(), path+": line 1") {
		t.Errorf("got %v, want the file and the line", err)
	}
	if err := os.WriteFile(path, make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := model.ReadManifest(path); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a huge file gives %v", err)
	}
}

func TestInstanceCount(t *testing.T) {
	cpus := runtime.GOMAXPROCS(0)
	tests := []struct{ instances, threads, want int }{
		{3, 1, 3}, {0, 1, cpus}, {0, 2, max(1, cpus/2)}, {0, 100 * cpus, 1},
	}
	for _, tt := range tests {
		m := model.Manifest{Instances: tt.instances, IntraOpThreads: tt.threads}
		if got := m.InstanceCount(); got != tt.want {
			t.Errorf("%d instances of %d threads: %d, want %d", tt.instances, tt.threads, got, tt.want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte("batching: {max_rows: 4}\nmetadata: {a: b}"))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("metadata: &m {<<: *m}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := model.ParseManifest(text)
		if err == nil && (m.Batching.MaxRows < 1 || m.IntraOpThreads < 1 || m.Instances < 0 || m.Batching.MaxDelay < 0 || m.Retry.MaxAttempts < 0 || m.Retry.MaxDelay < 0 || m.ResultTTL < 0 || m.Deadline < 0) {
			t.Errorf("accepted as %+v", m)
		}
	})
}
