package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The histograms that are read, as the processes expose them.
const (
	metricMessageJobs = "sheaf_queue_message_jobs"
	metricBatchRows   = "sheaf_worker_batch_rows"
)

// histogram is the sum and the number of what a Prometheus histogram has observed, over all its labels.
type histogram struct{ sum, count float64 }

// meanSince is the mean of what was observed since an earlier reading, 0 if nothing was.
func (h histogram) meanSince(before histogram) float64 {
	if h.count <= before.count {
		return 0
	}
	return (h.sum - before.sum) / (h.count - before.count)
}

// messages reads how many jobs travelled in how many messages, from this process.
func (s *sheafSide) messages() (histogram, error) {
	families, err := s.registry.Gather()
	if err != nil {
		return histogram{}, fmt.Errorf("read the producer's metrics: %w", err)
	}
	var h histogram
	for _, f := range families {
		if f.GetName() != metricMessageJobs {
			continue
		}
		for _, m := range f.GetMetric() {
			h.sum += m.GetHistogram().GetSampleSum()
			h.count += float64(m.GetHistogram().GetSampleCount())
		}
	}
	return h, nil
}

// batches reads how many rows ran in how many batches, from the worker's metrics.
func (s *sheafSide) batches(ctx context.Context) (histogram, error) {
	page, err := s.lab.ops(ctx, "/metrics")
	if err != nil {
		return histogram{}, fmt.Errorf("read the worker's metrics: %w", err)
	}
	return parseHistogram(page, metricBatchRows), nil
}

// parseHistogram adds up the samples of one histogram in Prometheus's text format.
func parseHistogram(page, name string) histogram {
	var h histogram
	for line := range strings.Lines(page) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok {
			continue
		}
		space := strings.LastIndexByte(strings.TrimSpace(rest), ' ')
		if space < 0 {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(rest[space:]), 64)
		if err != nil {
			continue
		}
		series, _, _ := strings.Cut(rest[:space], "{")
		switch series {
		case "_sum":
			h.sum += value
		case "_count":
			h.count += value
		}
	}
	return h
}

// copyLimited copies at most 16 MiB, which is more than a page of metrics has.
func copyLimited(dst io.Writer, src io.Reader) (int64, error) {
	return io.Copy(dst, io.LimitReader(src, 16<<20))
}
