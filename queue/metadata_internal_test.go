package queue

import (
	"testing"
	"time"
)

// The server of our go.mod sends the short form; the long ones come from servers of another configuration.
func TestParseMetadata(t *testing.T) {
	want := metadata{delivered: 3, seq: 18446744073709551615, published: time.Unix(0, 1700000000123456789), pending: 9}
	const numbers = "3.18446744073709551615.7.1700000000123456789.9"
	for _, reply := range []string{
		"$JS.ACK.bulk.digits%2Ev1." + numbers,
		"$JS.ACK._.hash.bulk.digits%2Ev1." + numbers,
		"$JS.ACK.hub.hash.bulk.digits%2Ev1." + numbers + ".random",
	} {
		if got, ok := parseMetadata(reply); !ok || !got.published.Equal(want.published) || got.seq != want.seq || got.delivered != want.delivered || got.pending != want.pending {
			t.Errorf("%s: got %+v, %v", reply, got, ok)
		}
	}
	for _, reply := range []string{
		"", "_INBOX.a.b", "$JS.ACK.", "$JS.ACK.bulk.digits.3.4.5.6", "$JS.ACK.bulk.digits.x.1.7.17.9", "$JS.ACK.bulk.digits.1.-1.7.17.9",
		"$JS.ACK.bulk.digits.1.1.7.now.9", "$JS.ACK.a.b.c.d.e.f.g.h.i.j.k.l.m.n", "$JS.ACK.bulk.digits.99999999999.1.7.17.9", "$JS.ACK.bulk.digits.1.1.7.17.many",
	} {
		if got, ok := parseMetadata(reply); ok {
			t.Errorf("%q is taken: %+v", reply, got)
		}
	}
}

func FuzzSubject(f *testing.F) {
	f.Add("sheaf.interactive.digits.default")
	f.Add("sheaf.bulk.a%2Eb.c%2E%2E")
	f.Add("sheaf.bulk.a.b.c")
	f.Add("sheaf.dead.a.b")
	f.Fuzz(func(t *testing.T, s string) {
		lane, model, tenant, ok := parseSubject(s)
		if ok && subject(lane, model, tenant) != s {
			t.Errorf("%q is read as %v %q %q, which is written %q", s, lane, model, tenant, subject(lane, model, tenant))
		}
		parseMetadata(s)
		_ = plainInbox(s)
	})
}
