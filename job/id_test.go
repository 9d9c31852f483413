package job_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/job"
)

func TestIDRoundTrip(t *testing.T) {
	id, err := job.NewID()
	if err != nil {
		t.Fatal(err)
	}
	if id.IsZero() || id[6]>>4 != 7 || id[8]>>6 != 2 {
		t.Errorf("%s is not a UUID of version 7", id)
	}
	if got := mustID(t, id.String()); got != id {
		t.Errorf("%s was read as %s", id, got)
	}
	if got := mustID(t, strings.ToUpper(id.String())); got != id {
		t.Errorf("%s in capitals was read as %s", id, got)
	}
	b, err := json.Marshal(map[string]job.ID{"id": id})
	if err != nil {
		t.Fatal(err)
	}
	var back map[string]job.ID
	if err := json.Unmarshal(b, &back); err != nil || back["id"] != id {
		t.Errorf("%s was read as %v, %v", b, back, err)
	}
}

// The derived ID is part of the wire contract: a repeated submit must be the same job after every upgrade.
func TestDerivedID(t *testing.T) {
	id := job.DerivedID("acme", "order-66")
	if got, want := id.String(), "da614df9-ffda-5058-a2fc-d47ebe134ed4"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if id[6]>>4 != 5 {
		t.Errorf("%s is not a UUID of version 5", id)
	}
	for _, other := range [][2]string{{"acme", "order-67"}, {"acme2", "order-66"}, {"acm", "eorder-66"}, {"", "acme"}} {
		if job.DerivedID(other[0], other[1]) == id {
			t.Errorf("%q has the same ID", other)
		}
	}
}

func TestParseIDThatIsRefused(t *testing.T) {
	for _, s := range []string{
		"", "x", "00000000-0000-0000-0000-000000000000", uuidA + " ", "{" + uuidA + "}", "urn:uuid:" + uuidA,
		strings.ReplaceAll(uuidA, "-", ""), strings.Replace(uuidA, "-", "x", 1), "g" + uuidA[1:],
	} {
		if id, err := job.ParseID(s); err == nil {
			t.Errorf("%q was read as %s", s, id)
		}
		if err := new(job.ID).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q was unmarshaled", s)
		}
	}
}

func TestTicketRoundTrip(t *testing.T) {
	id := mustID(t, uuidA)
	tests := []struct {
		ticket job.Ticket
		text   string
	}{
		{job.Ticket{ID: id}, uuidA},
		{job.Ticket{ID: id, Seq: 1}, uuidA + ".i1-0"},
		{job.Ticket{ID: id, Seq: 1, Fingerprint: 1<<64 - 1}, uuidA + ".i1-0-ffffffffffffffff"},
		{job.Ticket{ID: id, Seq: 1, Index: 2, Fingerprint: 0xa}, uuidA + ".i1-2-a"},
		{job.Ticket{ID: id, Lane: job.Bulk, Seq: 4821, Index: 3}, uuidA + ".b4821-3"},
		{job.Ticket{ID: id, Seq: 1<<64 - 1, Index: 1<<20 - 1}, uuidA + ".i18446744073709551615-1048575"},
	}
	for _, tt := range tests {
		if got := tt.ticket.String(); got != tt.text {
			t.Errorf("got %s, want %s", got, tt.text)
		}
		if got, err := job.ParseTicket(tt.text); err != nil || got != tt.ticket {
			t.Errorf("%s was read as %+v, %v", tt.text, got, err)
		}
	}
}

func TestParseTicketThatIsRefused(t *testing.T) {
	for _, tail := range []string{
		".", ".i", ".i1", ".i1-", ".i-1", ".i0-0", ".x1-0", ".I1-0", ".i01-0", ".i1-00", ".i+1-0", ".i1--1", ".i1-0 ", ".i1-0.",
		".i18446744073709551616-0", ".i1-1048576", ".i1-99999999999999999999", ".i１-0", ".i1-0-", ".i1-0-0", ".i1-0-0a", ".i1-0-A", ".i1-0-1ffffffffffffffff", ".i1-0-1-2",
	} {
		if got, err := job.ParseTicket(uuidA + tail); err == nil {
			t.Errorf("%q was read as %+v", uuidA+tail, got)
		}
	}
	if _, err := job.ParseTicket("nonsense"); err == nil || strings.Contains(err.Error(), "nonsense") {
		t.Errorf("got %v, want an error that does not repeat the text", err)
	}
}
