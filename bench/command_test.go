package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func TestRunCommand(t *testing.T) {
	// The kernel's own figure of a child that was waited for has this memory of its parent.
	held := make([]byte, 96<<20)
	for i := range held {
		held[i] = 1
	}
	r, err := runCommand(t.Context(), "sh", t.TempDir(), "/bin/sh", "-c", "echo some text; sleep 0.2; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	if held[len(held)-1] != 1 || r.Status != 3 || r.Seconds < 0.2 {
		t.Errorf("expected the status 3 after 0.2 s, got %+v", r)
	}
	if r.Peak > 48<<20 {
		t.Errorf("a shell took %d MB", r.Peak>>20)
	}
	if err := r.expect("sh", 3); err != nil {
		t.Error(err)
	}
	if err := r.expect("sh", 0); err == nil || !strings.Contains(err.Error(), "some text") {
		t.Errorf("expected an error with the end of the log, got %v", err)
	}
}

func TestRunCommandThatDoesNotEnd(t *testing.T) {
	_, err := runCommand(t.Context(), "sh", t.TempDir(), "/bin/sh", "-c", "kill -9 $$")
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a program that was killed: %v", err)
	}
	late := errors.New("too late")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, late)
	defer cancel()
	_, err = runCommand(ctx, "sleep", t.TempDir(), "/bin/sleep", "600")
	if err == nil || !strings.Contains(err.Error(), late.Error()) {
		t.Errorf("a program that does not end: %v", err)
	}
}
