package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFlags(t *testing.T) {
	cfg, err := parseConfig([]string{"-quick", "-jobs", "5000", "-rates", "100, 200", "-asynq-rates", "none"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.jobs != 5000 {
		t.Errorf("-quick overrode -jobs: %d", cfg.jobs)
	}
	if cfg.rounds != 1 || cfg.latencyFor != 2*time.Second {
		t.Errorf("-quick is not quick: %d rounds, %v", cfg.rounds, cfg.latencyFor)
	}
	if !slices.Equal(cfg.rates, []int{100, 200}) || len(cfg.asynqRates) != 0 {
		t.Errorf("rates are %v and %v", cfg.rates, cfg.asynqRates)
	}
}

func TestFlagFaultsAreNamedAtOnce(t *testing.T) {
	_, err := parseConfig([]string{"-jobs", "1", "-rounds", "0", "-redis-fsync", "sometimes", "-latency", "1ms"}, io.Discard)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{"-jobs", "-rounds", "-redis-fsync", "-latency"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not in the error: %v", name, err)
		}
	}
}

func TestBadArguments(t *testing.T) {
	for name, args := range map[string][]string{
		"unknown flag": {"-fast"}, "argument": {"fast"}, "rate of zero": {"-rates", "0"}, "not a rate": {"-rates", "1000,many"},
		"rate beyond reason": {"-rates", "2000000"},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr bytes.Buffer
			if code := run(context.Background(), args, io.Discard, &stderr); code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if stderr.Len() == 0 {
				t.Error("it says nothing")
			}
		})
	}
	if _, err := parseConfig([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
}

func TestMissingProgramsAreNamedWithAdvice(t *testing.T) {
	var stderr bytes.Buffer
	if code := run(context.Background(), []string{"-root", t.TempDir()}, io.Discard, &stderr); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	for _, want := range []string{"make build", "make deps"} {
		if !strings.Contains(stderr.String(), want) {
			t.Errorf("%q is not in the message: %s", want, stderr.String())
		}
	}
}
