package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"syscall"

	"github.com/sheafml/sheaf/job"
)

// Policy says which URLs may be called.
type Policy struct {
	http     bool
	networks []netip.Prefix
}

// NewPolicy takes what the settings allow.
func NewPolicy(cfg *Config) *Policy { return &Policy{http: cfg.AllowHTTP, networks: cfg.AllowNetworks} }

// errRefused marks an address that must not be called.
var errRefused = errors.New("not a public address")

// Check says what speaks against a URL before anything of it is looked up: its form, its scheme, an address in it that
// is not public. The error is a *job.Error of the field, nil if nothing does. What the name of its host leads to is
// looked at when it is called.
func (p *Policy) Check(field, s string) error {
	if err := job.CheckWebhook(field, s); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err != nil {
		return job.Invalidf(field, "expected an absolute URL")
	}
	if !p.http && !strings.EqualFold(u.Scheme, "https") {
		return job.Invalidf(field, "expected an https URL")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		host = "127.0.0.1"
	}
	if addr, err := netip.ParseAddr(host); err == nil && !p.allows(addr) {
		return job.Invalidf(field, "expected a public host: this address is private or reserved, and not in a network that the server allows")
	}
	return nil
}

// control is asked before each connection, with the address that is really connected to: whatever the name said when it
// was looked up before.
func (p *Policy) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q", errRefused, address)
	}
	if !p.allows(at.Addr()) {
		return fmt.Errorf("%w, and not in a network that is allowed: %s", errRefused, at.Addr())
	}
	return nil
}

func (p *Policy) allows(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, n := range p.networks {
		if n.Contains(a) {
			return true
		}
	}
	if v4, ok := embedded(a); ok {
		return p.allows(v4)
	}
	if a.Is4() {
		return !within(reserved4(), a)
	}
	return globalUnicast6().Contains(a) && !within(reserved6(), a)
}

func within(list []netip.Prefix, a netip.Addr) bool {
	for _, n := range list {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a NAT64 address of the well-known prefix leads to.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !netip.MustParsePrefix("64:ff9b::/96").Contains(a) {
		return netip.Addr{}, false
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}

// globalUnicast6 is all of IPv6 that is handed out for the Internet. Mapped, compatible, local, multicast and what has
// no use yet lie outside.
func globalUnicast6() netip.Prefix { return netip.MustParsePrefix("2000::/3") }

// reserved4 is what is not public, of the IANA's registry of special-purpose addresses, and multicast.
func reserved4() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8",       // this network; 0.0.0.0 reaches the machine itself
		"10.0.0.0/8",      // private
		"100.64.0.0/10",   // carriers' NAT
		"127.0.0.0/8",     // loopback
		"169.254.0.0/16",  // link-local, and the clouds' metadata
		"172.16.0.0/12",   // private
		"192.0.0.0/24",    // protocol assignments
		"192.0.2.0/24",    // documentation
		"192.88.99.0/24",  // relays of 6to4
		"192.168.0.0/16",  // private
		"198.18.0.0/15",   // benchmarks
		"198.51.100.0/24", // documentation
		"203.0.113.0/24",  // documentation
		"224.0.0.0/4",     // multicast
		"240.0.0.0/4",     // reserved, and broadcast
	)
}

// reserved6 is what lies in globalUnicast6 and is not public, or leads to IPv4 behind our back.
func reserved6() []netip.Prefix {
	return prefixes(
		"2001::/23",     // protocol assignments: Teredo, benchmarks, ORCHID
		"2001:db8::/32", // documentation
		"2002::/16",     // 6to4
		"3fff::/20",     // documentation
	)
}

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}
