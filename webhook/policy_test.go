package webhook_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/webhook"
)

func TestPolicyAtSubmit(t *testing.T) {
	strict, lax := webhook.DefaultConfig(), webhook.DefaultConfig()
	lax.AllowHTTP = true
	lax.AllowNetworks = []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32"), netip.MustParsePrefix("127.0.0.1/32")}
	for _, tt := range []struct {
		url         string
		strict, lax bool
	}{
		{"https://example.com/x", true, true},
		{"https://8.8.8.8", true, true},
		{"https://[2606:4700::1111]/", true, true},
		{"https://[64:ff9b::808:808]/", true, true}, // 8.8.8.8 by NAT64
		{"http://example.com/x", false, true},
		{"HTTP://example.com/x", false, true},
		{"https://user:pw@example.com", false, false},
		{"https://localhost", false, true},
		{"https://LOCALHOST.:443", false, true},
		{"https://x.localhost", false, true},
		{"https://127.0.0.1", false, true},
		{"https://127.0.0.2", false, false},
		{"https://[::1]", false, false},
		{"https://0.0.0.0", false, false},
		{"https://[::]", false, false},
		{"https://10.1.2.3", false, true},
		{"https://10.2.2.3", false, false},
		{"https://172.16.0.1", false, false},
		{"https://172.31.255.255", false, false},
		{"https://172.32.0.1", true, true},
		{"https://192.168.1.1", false, false},
		{"https://169.254.169.254/latest/meta-data", false, false},
		{"https://100.64.0.1", false, false},
		{"https://100.128.0.1", true, true},
		{"https://192.0.0.8", false, false},
		{"https://198.19.0.1", false, false},
		{"https://224.0.0.1", false, false},
		{"https://255.255.255.255", false, false},
		{"https://[::ffff:10.2.0.1]", false, false},
		{"https://[::ffff:10.1.0.1]", false, true},
		{"https://[::ffff:8.8.8.8]", true, true},
		{"https://[::10.2.0.1]", false, false},
		{"https://[64:ff9b::a02:1]", false, false}, // 10.2.0.1 by NAT64
		{"https://[64:ff9b::a01:1]", false, true},
		{"https://[64:ff9b:1::808:808]", false, false},
		{"https://[2002:a02:1::]", false, false}, // 10.2.0.1 by 6to4
		{"https://[2001::1]", false, false},      // Teredo
		{"https://[2001:db8::1]", false, false},
		{"https://[fd00:1::5]", false, true},
		{"https://[fd00:2::5]", false, false},
		{"https://[fe80::1]", false, false},
		{"https://[fe80::1%25eth0]", false, false},
		{"https://[ff02::1]", false, false},
		{"https://[fec0::1]", false, false},
	} {
		for _, as := range []struct {
			name string
			cfg  *webhook.Config
			ok   bool
		}{{"strict", &strict, tt.strict}, {"lax", &lax, tt.lax}} {
			err := webhook.NewPolicy(as.cfg).Check("webhook", tt.url)
			var invalid *job.Error
			if (err == nil) != as.ok || err != nil && (!errors.As(err, &invalid) || invalid.Code != job.CodeInvalid || invalid.Field != "webhook") {
				t.Errorf("%s, %s: got %v, expected %t", tt.url, as.name, err, as.ok)
			}
		}
	}
}

// A name that leads to a private address is refused when it is connected to, whatever it led to before.
func TestPrivateAddressByName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, address string }{
		{"loopback", "127.0.0.1"}, {"metadata", "169.254.169.254"}, {"private", "10.0.0.7"}, {"unspecified", "0.0.0.0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.cfg.AllowNetworks = nil
			r.cfg.Schedule = []time.Duration{time.Millisecond}
			rc := receive(t, nil)
			r.deps.Resolver = resolveTo(t, tt.address)
			r.start()
			r.finish("http://receiver.example:"+port(t, rc.URL)+"/", nil)
			r.wantGivenUp(2, "not a public address")
			if n := len(rc.requests()); n != 0 {
				t.Errorf("%d requests reached the receiver", n)
			}
		})
	}
}

// A network that is allowed is called, also by name.
func TestAllowedNetworkByName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	rc := receive(t, nil)
	r.deps.Resolver = resolveTo(t, "127.0.0.1")
	r.start()
	r.finish("http://receiver.example:"+port(t, rc.URL)+"/", nil)
	rc.await(t, 1)
}

// A proxy of the environment would connect in our place, and no policy would see to what.
func TestProxyIsNotUsed(t *testing.T) {
	proxy := receive(t, func(_ int, w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	r := newRig(t)
	r.cfg.Schedule = []time.Duration{time.Millisecond}
	r.cfg.AllowNetworks = nil
	r.deps.Resolver = resolveTo(t, "10.0.0.7")
	r.start()
	r.finish("http://receiver.example/", nil)
	r.wantGivenUp(2, "not a public address")
	if n := len(proxy.requests()); n != 0 {
		t.Errorf("%d requests reached the proxy", n)
	}
}

func port(t *testing.T, s string) string {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// resolveTo is a resolver whose name server says that every name has this IPv4 address, and no other.
func resolveTo(t *testing.T, address string) *net.Resolver {
	t.Helper()
	ip := netip.MustParseAddr(address).As4()
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		go answerNames(server, ip)
		return client, nil
	}}
}

// answerNames speaks DNS as over TCP: a message after its length.
func answerNames(c net.Conn, ip [4]byte) {
	defer c.Close()
	for {
		var size [2]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		query := make([]byte, binary.BigEndian.Uint16(size[:]))
		if _, err := io.ReadFull(c, query); err != nil || len(query) < 12 {
			return
		}
		end := 12
		for end < len(query) && query[end] != 0 {
			end += int(query[end]) + 1
		}
		question := query[12 : end+5] // the name, its end, type and class
		isA := binary.BigEndian.Uint16(question[len(question)-4:]) == 1
		answer := append([]byte(nil), query[:2]...)
		answer = append(answer, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
		answer = append(answer, question...)
		if isA {
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			answer = append(answer, ip[:]...)
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...)); err != nil {
			return
		}
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	cfg := webhook.Config{
		Schedule: []time.Duration{time.Minute, time.Second}, AllowNetworks: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/8")},
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("it is accepted")
	}
	for _, name := range []string{"Schedule", "Timeout", "RetryAfterMax", "Overlap", "Concurrency", "PerTenant", "PerHost", "MaxPayload", "AllowNetworks"} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("%s is not named: %v", name, err)
		}
	}
	cfg = webhook.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
}
