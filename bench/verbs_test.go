package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
)

// The server's partition function is FNV-1a over the tenant's token; these are its published values.
func TestTenantShare(t *testing.T) {
	for tenant, hash := range map[string]uint32{"": 0x811c9dc5, "a": 0xe40c292c, "foobar": 0xbf9cf968} {
		if got, want := tenantShare(tenant, 8), int(hash%8); got != want {
			t.Errorf("%q: got %d, want %d", tenant, got, want)
		}
	}
}

func TestFloodTenants(t *testing.T) {
	for _, shares := range []int{2, 8, 64} {
		other, same := floodTenants(shares)
		mine := tenantShare(quietTenant, shares)
		if tenantShare(other, shares) == mine || tenantShare(same, shares) != mine || same == quietTenant {
			t.Errorf("%d shares: %s and %s beside %s", shares, other, same, quietTenant)
		}
	}
	if other, same := floodTenants(1); other == "" || same == "" {
		t.Error("one share has a tenant too")
	}
}

func TestParseLanes(t *testing.T) {
	page, err := os.ReadFile("testdata/jsz.json")
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseLanes(page)
	if err != nil {
		t.Fatal(err)
	}
	if want := (laneState{Messages: 12, Waiting: 7, Delivered: 105}); got[job.Interactive] != want {
		t.Errorf("interactive: got %+v, want %+v", got[job.Interactive], want)
	}
	if want := (laneState{}); got[job.Bulk] != want {
		t.Errorf("bulk: got %+v, want %+v", got[job.Bulk], want)
	}
	if _, err := parseLanes([]byte(`{"account_details":[]}`)); err == nil {
		t.Error("a page without lanes was taken")
	}
}

func TestFeedIsDueEvenly(t *testing.T) {
	start := time.Now()
	f := &feed{rate: 200}
	for n, want := range map[int]time.Duration{0: 0, 1: 5 * time.Millisecond, 1000: 5 * time.Second} {
		if got := f.due(start, n).Sub(start); got != want {
			t.Errorf("job %d is due after %v, want %v", n, got, want)
		}
	}
}

func TestLanesRatiosAreOfRounds(t *testing.T) {
	phase := func(p99, bulk float64) lanesPhase {
		return lanesPhase{Interactive: &spread{P50: 1, P99: p99}, Bulk: bulk, LeastWaiting: 3}
	}
	r := &lanesReport{}
	for _, k := range [][4]float64{{10, 12, 100, 90}, {1, 3, 50, 30}, {100, 130, 200, 190}} {
		r.Rounds = append(r.Rounds, lanesRound{Alone: phase(k[0], 0), Both: phase(k[1], k[3]), Backfill: phase(0, k[2])})
	}
	r.sum()
	if r.P99Ratio.Median != 1.3 || r.P99Ratio.Max != 3 || r.Share.Median != 0.9 || r.Share.Min != 0.6 {
		t.Errorf("got p99 %+v, share %+v", r.P99Ratio, r.Share)
	}
	if r.judge(); len(r.Missed) != 0 {
		t.Errorf("missed: %v", r.Missed)
	}
	r.Rounds[1].Both.LeastWaiting = 0
	r.P99Ratio.Median, r.Share.Median = 1.6, 0.7
	if r.judge(); len(r.Missed) != 3 {
		t.Errorf("missed %v, want the ratio, the share, and the lane that ran empty", r.Missed)
	}
}

func TestOverloadJudges(t *testing.T) {
	good := func() *overloadReport {
		return &overloadReport{
			Sustainable: 100, Offered: 500, Share: 0.95, InTimeShare: 1, Refusals: spread{P99: 20},
			Refused: map[int]int{429: 5}, RetryAfter: map[int]map[string]int{429: {"2": 5}},
		}
	}
	for name, change := range map[string]func(*overloadReport){
		"":                           func(*overloadReport) {},
		"goodput":                    func(r *overloadReport) { r.Share = 0.5 },
		"in time":                    func(r *overloadReport) { r.InTimeShare = 0.9 },
		"refusals":                   func(r *overloadReport) { r.Refusals.P99 = 2000 },
		"not answered":               func(r *overloadReport) { r.Refused[0] = 1 },
		"429 had no Retry-After":     func(r *overloadReport) { r.RetryAfter[http.StatusTooManyRequests][""] = 1 },
		"status 503 had no Retry-Af": func(r *overloadReport) { r.RetryAfter[503] = map[string]int{"": 1} },
	} {
		r := good()
		change(r)
		r.judge()
		if name == "" && len(r.Missed) != 0 || name != "" && (len(r.Missed) != 1 || !strings.Contains(r.Missed[0], name)) {
			t.Errorf("%q: missed %v", name, r.Missed)
		}
	}
}

func TestDistributionIsInOrder(t *testing.T) {
	got := distribution(map[string]int{"10": 1, "2": 1500, "": 3})
	if want := "none × 3, 2 s × 1,500, 10 s × 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLimitRows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "model.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("description: max_rows\nbatching:\n  max_rows: 32\nprediction: y\n")
	if err := limitRows(file, 4); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if want := "description: max_rows\nbatching:\n  max_rows: 4\nprediction: y\n"; err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	write("prediction: y\n")
	if err := limitRows(file, 4); err == nil {
		t.Error("a file without max_rows was left as it is, silently")
	}
	if err := limitRows("nowhere", 0); err != nil {
		t.Errorf("nothing is to be changed: %v", err)
	}
}

func TestVerbsRefuseWrongFlags(t *testing.T) {
	parse := map[string]func(args ...string) error{
		"lanes":    func(args ...string) error { _, err := parseLanesConfig(args, io.Discard); return err },
		"fair":     func(args ...string) error { _, err := parseFair(args, io.Discard); return err },
		"overload": func(args ...string) error { _, err := parseOverload(args, io.Discard); return err },
		"soak":     func(args ...string) error { _, err := parseSoak(args, io.Discard); return err },
	}
	for verb, p := range parse {
		if err := p("-quick", "-root", ".."); err != nil {
			t.Errorf("%s -quick: %v", verb, err)
		}
		if err := p("-root", "..", "again"); err == nil {
			t.Errorf("%s takes an argument", verb)
		}
		if err := p("-root", "..", "-redis-fsync", "sometimes"); err == nil || !strings.Contains(err.Error(), "everysec") {
			t.Errorf("%s -redis-fsync sometimes: %v", verb, err)
		}
	}
	for _, args := range [][]string{
		{"lanes", "-rounds", "0"},
		{"lanes", "-load", "2"},
		{"lanes", "-model", "nonsense"},
		{"fair", "-flood", "0.5"},
		{"fair", "-shares", "0"},
		{"overload", "-times", "0"},
		{"overload", "-warm-up", "1h"},
		{"overload", "-rows", "0"},
		{"soak", "-load", "0"},
		{"soak", "-result-ttl", "1s"},
		{"soak", "-drain-jobs", "10"},
	} {
		err := parse[args[0]](append([]string{"-root", ".."}, args[1:]...)...)
		if err == nil || !strings.Contains(err.Error(), args[1]) && args[1] != "-model" {
			t.Errorf("%v: %v", args, err)
		}
	}
}

func TestQuickLeavesWhatIsGiven(t *testing.T) {
	c, err := parseSoak([]string{"-quick", "-drains", "77"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.drains != 77 || c.drainJobs != 10_000 || c.length != 15*time.Second {
		t.Errorf("got %d drains of %d jobs, %v", c.drains, c.drainJobs, c.length)
	}
}

func TestGRPCConfig(t *testing.T) {
	c, err := parseGRPC([]string{"-quick", "-in-flight", "1, 16"}, io.Discard)
	if err != nil || len(c.loads) != 2 || c.loads[1] != 16 || c.rounds != 1 || c.phase >= time.Second {
		t.Errorf("%+v %v", c, err)
	}
	for _, flags := range [][]string{{"-in-flight", "0"}, {"-in-flight", ""}, {"-in-flight", "a"}, {"-connections", "0"}, {"-rounds", "0"}} {
		if _, err := parseGRPC(flags, io.Discard); err == nil {
			t.Errorf("%v was taken", flags)
		}
	}
}

func TestGRPCJudge(t *testing.T) {
	point := func(inFlight int, us float64) loadPoint {
		return loadPoint{Way: wayBulk, InFlight: inFlight, CPU: map[string]float64{"serve": us, "bench": 1000 / us}}
	}
	r := grpcReport{Points: []loadPoint{point(64, 10), point(1, 100), point(64, 30), point(1, 120), point(64, 20)}}
	if r.judge(); len(r.Missed) > 0 {
		t.Errorf("a cost that falls is missed: %v", r.Missed)
	}
	if rows := r.medians(wayBulk); len(rows) != 2 || rows[0].CPU["serve"] != 110 || rows[1].CPU["serve"] != 20 {
		t.Errorf("the medians are %+v", rows)
	}
	var text strings.Builder
	if r.print(&text); !strings.Contains(text.String(), "110.0") {
		t.Errorf("the report is %s", text.String())
	}
	r.Points = append(r.Points, point(256, 200))
	if r.judge(); len(r.Missed) != 1 {
		t.Errorf("a cost that grows: %v", r.Missed)
	}
}
