package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files")

func sampleReport() *report {
	r := &report{
		At: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Seconds: 200,
		Facts: facts{
			CPU: "Example CPU", Cores: 2, OS: "linux/amd64", Go: "1.26.8", Sheaf: "0.1.0", NATS: "2.15.2", Redis: "7.0.15",
			ORT: "1.27.0", Asynq: "0.26.0",
		},
		Settings: settings{
			RedisAppendOnly: true, RedisFsync: "everysec", NATSSyncInterval: "1s",
			AsynqConcurrency: 32, AsynqTried: map[string]float64{"8": 4000, "128": 4200, "32": 4500}, AsynqClients: 8, AsynqInterval: "1ms",
		},
		Latency: []latency{
			{System: systemSheaf, Rate: 1000, Runs: []latencyRun{
				{Jobs: 10000, Seconds: 10, P50: 0.8, P90: 1.2, P99: 1.7, Max: 9, LateP50: 0.1, LateP99: 0.2, Held: true},
				{Jobs: 10000, Seconds: 10, P50: 0.9, P90: 1.3, P99: 1.9, Max: 5, LateP50: 0.1, LateP99: 0.3, Held: true},
				{Jobs: 10000, Seconds: 10, P50: 7, P90: 70, P99: 700, Max: 800, LateP50: 1, LateP99: 100, Held: true},
			}},
			{System: systemAsynq, Rate: 1000, Runs: []latencyRun{
				{Jobs: 10000, Seconds: 10, P50: 12, P90: 20, P99: 31.25, Max: 100, NoticesLost: 3},
			}},
		},
	}
	ours := []round{
		{Jobs: 300_000, Seconds: 3, JobsPerSecond: 100_000, MessageJobs: 64, BatchRows: 60, OtherCPUs: 0.1, CPU: map[string]float64{cpuProducer: 4, cpuNATS: 2, cpuWorker: 8, cpuRedis: 3}},
		{Jobs: 300_000, Seconds: 4, JobsPerSecond: 75_000, MessageJobs: 64, BatchRows: 64, OtherCPUs: 0.5, CPU: map[string]float64{cpuProducer: 5, cpuNATS: 2, cpuWorker: 9, cpuRedis: 3}},
	}
	theirs := []round{
		{Jobs: 30_000, Seconds: 6, JobsPerSecond: 5000, CPU: map[string]float64{cpuProducer: 60, cpuWorker: 200, cpuRedis: 120}},
		{Jobs: 30_000, Seconds: 7.5, JobsPerSecond: 4000, CPU: map[string]float64{cpuProducer: 60, cpuWorker: 210, cpuRedis: 120}},
	}
	r.Throughput = []throughput{newThroughput(systemSheaf, ours), newThroughput(systemAsynq, theirs)}
	r.Ratio = ratios(ours, theirs)
	return r
}

func TestTable(t *testing.T) {
	quick := sampleReport()
	quick.Quick, quick.Throughput, quick.Ratio, quick.Latency = true, quick.Throughput[:1], nil, nil
	quick.Settings.AsynqConcurrency = 0
	quick.Settings.RedisAppendOnly = false
	quick.Throughput[0].Rounds[0].CPU = nil // a system without /proc
	for name, r := range map[string]*report{"full": sampleReport(), "sheaf-alone": quick} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			if err := r.print(&b); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if b.String() != string(want) {
				t.Errorf("the table differs from %s (go test -update writes it):\n%s", file, b.String())
			}
		})
	}
}

func TestReportAsJSON(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.json")
	if err := sampleReport().writeJSON(file); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Ratio == nil || got.Ratio.Median != 19.375 {
		t.Errorf("ratio: got %+v, want a median of 19.375", got.Ratio)
	}
	if len(got.Throughput) != 2 || got.Throughput[0].JobsPerSecond.Median != 87_500 {
		t.Errorf("throughput: got %+v", got.Throughput)
	}
	if len(got.Latency) != 2 || got.Latency[1].Runs[0].P99 != 31.25 {
		t.Errorf("latency: got %+v", got.Latency)
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -100: "-100"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) is %q, want %q", n, got, want)
		}
	}
}
