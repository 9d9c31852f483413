package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// resources is what a process holds at one moment. -1 is what it does not tell.
type resources struct {
	At          float64 `json:"at_s"` // since the sampling began
	RSS         float64 `json:"rss_bytes"`
	Goroutines  float64 `json:"goroutines"`
	Descriptors float64 `json:"descriptors"` // as the kernel counts them
	OpenFDs     float64 `json:"open_fds"`    // as the process itself says
	CPU         float64 `json:"cpu_s"`
}

// subject is a process that is sampled.
type subject struct {
	name    string
	pid     int
	metrics string // URL of its metrics, if it has any
}

// sampleProcess reads what a process holds.
func sampleProcess(ctx context.Context, s subject, at time.Duration) (resources, error) {
	r := resources{At: at.Seconds(), Goroutines: -1, OpenFDs: -1}
	dir := filepath.Join("/proc", strconv.Itoa(s.pid))
	statm, err := os.ReadFile(filepath.Join(dir, "statm")) //nolint:gosec // a process of this run
	if err != nil {
		return r, err
	}
	pages, err := residentPages(statm)
	if err != nil {
		return r, err
	}
	r.RSS = float64(pages * os.Getpagesize())
	list, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return r, err
	}
	r.Descriptors = float64(len(list))
	used, err := cpuTime(s.pid)
	if err != nil {
		return r, err
	}
	r.CPU = used.Seconds()
	if s.metrics == "" {
		return r, nil
	}
	page, err := get(ctx, s.metrics)
	if err != nil {
		return r, fmt.Errorf("read the metrics of %s: %w", s.name, err)
	}
	r.Goroutines, r.OpenFDs = gauge(page, "go_goroutines"), gauge(page, "process_open_fds")
	return r, nil
}

// residentPages reads the second field of /proc/PID/statm.
func residentPages(statm []byte) (int, error) {
	fields := bytes.Fields(statm)
	if len(fields) < 2 {
		return 0, fmt.Errorf("unexpected /proc/PID/statm: %q", statm)
	}
	return strconv.Atoi(string(fields[1]))
}

// gauge reads a metric without labels from a page in Prometheus's text format, -1 if it is not there.
func gauge(page, name string) float64 {
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name+" ")
		if !ok {
			continue
		}
		if v, err := strconv.ParseFloat(strings.TrimSpace(rest), 64); err == nil {
			return v
		}
	}
	return -1
}

// sampler samples processes at intervals.
type sampler struct {
	subjects []subject
	every    time.Duration
	series   map[string][]resources
}

func newSampler(every time.Duration, subjects ...subject) *sampler {
	return &sampler{subjects: subjects, every: every, series: make(map[string][]resources)}
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) error {
	start, failures := time.Now(), 0
	ticker := time.NewTicker(s.every)
	defer ticker.Stop()
	for {
		for _, p := range s.subjects {
			r, err := sampleProcess(ctx, p, time.Since(start))
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				if failures++; failures > patientFailures {
					return fmt.Errorf("sample %s: %w", p.name, err)
				}
				continue
			}
			failures = 0
			s.series[p.name] = append(s.series[p.name], r)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// drift compares the beginning of a run with its end.
type drift struct {
	Process string  `json:"process"`
	What    string  `json:"what"`
	First   float64 `json:"first"` // median of the first part
	Last    float64 `json:"last"`
	Ratio   float64 `json:"ratio"`
	Flat    bool    `json:"flat"`
}

const (
	// flatRatio and the slacks say what counts as flat: the median at the end is no more than the ratio of that at the
	// beginning, or than the slack above it.
	flatRatio      = 1.1
	slackRSS       = 16 << 20
	slackSmallInts = 5
)

// drifts compares, for each process, the medians of the first and the last part of its samples. settling is left out
// at the beginning.
func drifts(names []string, series map[string][]resources, settling, part time.Duration) []drift {
	var list []drift
	for _, name := range names {
		for _, figure := range []struct {
			what  string
			slack float64
			of    func(resources) float64
		}{
			{"RSS", slackRSS, func(r resources) float64 { return r.RSS }},
			{"goroutines", slackSmallInts, func(r resources) float64 { return r.Goroutines }},
			{"descriptors", slackSmallInts, func(r resources) float64 { return r.Descriptors }},
			{"process_open_fds", slackSmallInts, func(r resources) float64 { return r.OpenFDs }},
		} {
			if d, ok := driftOf(series[name], settling, part, figure.slack, figure.of); ok {
				d.Process, d.What = name, figure.what
				list = append(list, d)
			}
		}
	}
	return list
}

func driftOf(series []resources, settling, part time.Duration, slack float64, figure func(resources) float64) (drift, bool) {
	if len(series) == 0 {
		return drift{}, false
	}
	end := series[len(series)-1].At
	var first, last []float64
	for _, r := range series {
		v := figure(r)
		if v < 0 {
			return drift{}, false
		}
		if r.At >= settling.Seconds() && r.At < (settling+part).Seconds() {
			first = append(first, v)
		}
		if r.At > end-part.Seconds() {
			last = append(last, v)
		}
	}
	if len(first) == 0 || len(last) == 0 {
		return drift{}, false
	}
	d := drift{First: summarize(first).Median, Last: summarize(last).Median}
	if d.First > 0 {
		d.Ratio = d.Last / d.First
	}
	d.Flat = d.Last <= d.First*flatRatio || d.Last <= d.First+slack
	return d, true
}
