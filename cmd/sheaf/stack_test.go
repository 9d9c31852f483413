package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/job"
)

// stack is the product as processes of its own: nats-server, redis-server, shims, workers.
type stack struct {
	nats, redis string
	apis        []string // base URLs
	workers     []*process
	ops         []string // base URLs of the workers
}

// newStack starts everything and waits until the digits model is announced everywhere.
func newStack(t testing.TB, apis, workers int, workerArgs ...string) *stack {
	t.Helper()
	s := &stack{nats: testserver.NATSProcess(t), redis: "redis://" + testserver.Redis(t)}
	for range workers {
		s.addWorker(t, workerArgs...)
	}
	for range apis {
		p := start(t, "serve", "--addr", "127.0.0.1:0", "--nats-url", s.nats, "--redis-url", s.redis)
		s.apis = append(s.apis, p.find(`HTTP API is up.* url=(\S+)`))
	}
	for _, url := range s.apis {
		eventually(t, func() error {
			if code, body := get(t, url+"/v1/models/digits"); code != http.StatusOK {
				return fmt.Errorf("digits is not announced: %d %s", code, body)
			}
			return nil
		})
	}
	return s
}

func (s *stack) addWorker(t testing.TB, args ...string) *process {
	t.Helper()
	p := start(t, append([]string{
		"worker", "--models", repoPath("examples", "models"), "--nats-url", s.nats, "--redis-url", s.redis,
	}, args...)...)
	s.workers = append(s.workers, p)
	s.ops = append(s.ops, p.find(`worker is up.* ops=(\S+)`))
	return p
}

// heldoutRow is a line of heldout.jsonl.
type heldoutRow struct {
	Input         []float64 `json:"input"`
	Label         int       `json:"label"`
	Probabilities []float64 `json:"probabilities"` // of a direct run of the model
}

func heldout(t testing.TB, model string) []heldoutRow {
	t.Helper()
	f, err := os.Open(repoPath("examples", "models", model, "heldout.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []heldoutRow
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r heldoutRow
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	if len(rows) < 100 {
		t.Fatalf("%d held-out rows of %s, expected hundreds", len(rows), model)
	}
	return rows
}

// fp32 makes a tensor of one row.
func fp32(name string, row []float64) job.Tensor {
	data := make([]byte, 0, 4*len(row))
	for _, v := range row {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(v)))
	}
	return job.Tensor{Name: name, Datatype: job.FP32, Shape: []int64{1, int64(len(row))}, Data: data}
}

// floats reads raw FP32.
func floats(raw []byte) []float64 {
	values := make([]float64, len(raw)/4)
	for i := range values {
		values[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
	}
	return values
}

// tolerance is what is promised between batch sizes, absolute.
const tolerance = 1e-5

func sameProbabilities(got, want []float64) error {
	if len(got) != len(want) {
		return fmt.Errorf("%d probabilities, expected %d", len(got), len(want))
	}
	for i := range got {
		if math.Abs(got[i]-want[i]) > tolerance || math.IsNaN(got[i]) {
			return fmt.Errorf("probability %d is %v, a direct run gives %v", i, got[i], want[i])
		}
	}
	return nil
}

func get(t testing.TB, url string) (int, []byte) {
	t.Helper()
	return request(t, http.MethodGet, url, nil, nil)
}

func post(t testing.TB, url string, body any) (int, []byte) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return request(t, http.MethodPost, url, raw, http.Header{"Content-Type": {"application/json"}})
}

func request(t testing.TB, method, url string, body []byte, header http.Header) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, answer
}

// jobAnswer is what the tests read of a job.
type jobAnswer struct {
	ID           string `json:"id"`
	Status       string `json:"status"`
	Model        string `json:"model"`
	ModelVersion string `json:"model_version"`
	Attempts     int    `json:"attempts"`
	Outputs      []struct {
		Name     string    `json:"name"`
		Datatype string    `json:"datatype"`
		Shape    []int64   `json:"shape"`
		Data     []float64 `json:"data"`
	} `json:"outputs"`
	Error *struct {
		Type   string `json:"type"`
		Detail string `json:"detail"`
	} `json:"error"`
	Timings *struct {
		BatchRows int `json:"batch_rows"`
	} `json:"timings"`
}

func decodeJob(t testing.TB, raw []byte) jobAnswer {
	t.Helper()
	var j jobAnswer
	if err := json.Unmarshal(raw, &j); err != nil {
		t.Fatalf("not a job: %v: %s", err, raw)
	}
	return j
}

// metric sums the samples of a metric whose line matches labels.
func metric(t testing.TB, base, name, labels string) float64 {
	t.Helper()
	code, body := get(t, base+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics answered %d", code)
	}
	sum := 0.0
	line := regexp.MustCompile(`^` + name + `(\{[^}]*\})? (\S+)$`)
	for l := range strings.SplitSeq(string(body), "\n") {
		m := line.FindStringSubmatch(l)
		if m == nil || !strings.Contains(m[1], labels) {
			continue
		}
		v, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += v
	}
	return sum
}
