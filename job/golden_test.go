package job_test

import (
	"bytes"
	"encoding/hex"
	"flag" //nolint:depguard // a test reads its own flag
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
)

// The golden files hold the wire contract: what other programs, and older versions of this one, have written. A change
// of these bytes is a change of the contract. `go test ./job -run Golden -update` writes them anew.
var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with a file of testdata; one that ends in .hex holds it in hexadecimal.
func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, armor(name, got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.TrimSuffix(file, []byte("\n"))
	if strings.HasSuffix(name, ".hex") {
		if want, err = hex.DecodeString(strings.Join(strings.Fields(string(file)), "")); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, armor(name, got), file)
	}
	return want
}

func armor(name string, b []byte) []byte {
	if !strings.HasSuffix(name, ".hex") {
		return append(bytes.Clone(b), '\n')
	}
	var out []byte
	for len(b) > 0 {
		n := min(len(b), 32)
		out = append(hex.AppendEncode(out, b[:n]), '\n')
		b = b[n:]
	}
	return out
}

func TestGoldenSheaf(t *testing.T) {
	full := sampleJob(t)
	least := job.Job{ID: job.ID{1}, Lane: full.Lane, Tenant: full.Tenant, Model: full.Model, CreatedAt: full.CreatedAt}
	body := golden(t, "sheaf.hex", sheafEnvelope(full, least).Body)
	got := decodeSheaf(t, envelope(body, job.HeaderContentType, job.ContentTypeSheaf))
	if d := diff([]job.Decoded{{Job: full}, {Job: least}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestGoldenRecord(t *testing.T) {
	for name, want := range map[string]job.Result{"record.hex": sampleResult(t), "record_failed.hex": failedResult(t)} {
		record := golden(t, name, job.AppendRecord(nil, &want))
		got, err := job.DecodeRecord(want.ID, record)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}

func TestGoldenProtobuf(t *testing.T) {
	want := sampleJob(t)
	// The deterministic form of the generated code; other encoders may order the parameters otherwise.
	got, err := decodeProto(golden(t, "request.hex", marshal(t, toRequest(t, &want, true))))
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(requested(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	r := sampleResult(t)
	golden(t, "response.hex", job.AppendResponseProtobuf(nil, &r))
}

func TestGoldenJSON(t *testing.T) {
	r := sampleResult(t)
	golden(t, "response.json", job.AppendResponseJSON(nil, &r))

	body, err := os.ReadFile(filepath.Join("testdata", "request.json")) // written by hand
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeJSON(string(body))
	if err != nil {
		t.Fatal(err)
	}
	want := requested(sampleJob(t))
	if d := diff(want, got); d != "" {
		t.Errorf("request.json (-want +got):\n%s", d)
	}
}
