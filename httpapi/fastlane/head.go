package fastlane

import "bytes"

// Request is a request that the lane has read. Everything in it is the lane's, and changes after the Handler returns.
type Request struct {
	Name          []byte // in the path, between prefix and suffix
	Authorization []byte // the header's value; nil if there is none
	TraceParent   []byte // the same of traceparent
	Body          []byte
	// State is the Handler's own, kept from one request of a connection to the next.
	State any
}

// head is what the head of a request says.
type head struct {
	name, authorization, traceParent []byte
	size                             int // of the head itself
	body                             int // Content-Length
}

// parse reads a head from the beginning of b. It is false for everything but a head that this package and net/http
// cannot read differently: net/http then reads it.
func (c *Config) parse(b []byte) (h head, ok bool) {
	const method, version = "POST ", " HTTP/1.1\r\n"
	if len(b) < len(method) || string(b[:len(method)]) != method {
		return h, false
	}
	end := bytes.IndexByte(b, '\n') + 1
	if end < len(method)+len(version) || string(b[end-len(version):end]) != version {
		return h, false
	}
	if h.name, ok = c.nameIn(b[len(method) : end-len(version)]); !ok {
		return h, false
	}
	h.body = -1
	host, typed := false, false
	for at := end; ; {
		n := bytes.IndexByte(b[at:], '\n')
		if n < 1 || b[at+n-1] != '\r' {
			return h, false
		}
		line := b[at : at+n-1]
		at += n + 1
		if len(line) == 0 {
			h.size = at
			return h, host && h.body > 0
		}
		f, value, ok := field(line)
		if !ok {
			return h, false
		}
		switch f {
		case fieldHost:
			ok, host = !host && plainHost(value), true
		case fieldLength:
			if h.body >= 0 {
				return h, false
			}
			h.body, ok = length(value)
		case fieldType:
			ok, typed = !typed && plainJSON(value), true
		case fieldConnection:
			ok = bytes.EqualFold(value, []byte("keep-alive"))
		case fieldAuthorization:
			ok = h.authorization == nil && len(value) > 0
			h.authorization = value
		case fieldTraceParent:
			ok = h.traceParent == nil && len(value) > 0
			h.traceParent = value
		case fieldIgnored:
		}
		if !ok {
			return h, false
		}
	}
}

// nameIn returns what stands in the path for the name.
func (c *Config) nameIn(path []byte) ([]byte, bool) {
	if len(path) <= len(c.Prefix)+len(c.Suffix) || string(path[:len(c.Prefix)]) != c.Prefix || string(path[len(path)-len(c.Suffix):]) != c.Suffix {
		return nil, false
	}
	name := path[len(c.Prefix) : len(path)-len(c.Suffix)]
	for i, b := range name {
		if !alphanumeric(b) && (i == 0 || b != '-' && b != '_' && b != '.') {
			return nil, false
		}
	}
	return name, true
}

func alphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' || b >= 'A' && b <= 'Z'
}

// Headers that the lane knows.
const (
	fieldIgnored = iota
	fieldHost
	fieldLength
	fieldType
	fieldConnection
	fieldAuthorization
	fieldTraceParent
)

// field splits a line into the header that it is and its value. It is false for a header that is not known, and for a
// value that is not printable ASCII.
func field(line []byte) (f int, value []byte, ok bool) {
	const longest = 24
	var lower [longest]byte
	n := 0
	for ; n < len(line) && line[n] != ':'; n++ {
		c := line[n]
		if n == longest {
			return 0, nil, false
		}
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		lower[n] = c
	}
	if n == len(line) {
		return 0, nil, false
	}
	switch string(lower[:n]) {
	case "host":
		f = fieldHost
	case "content-length":
		f = fieldLength
	case "content-type":
		f = fieldType
	case "connection":
		f = fieldConnection
	case "authorization":
		f = fieldAuthorization
	case "traceparent":
		f = fieldTraceParent
	// What says nothing to net/http and nothing to a Handler, and is sent by clients and proxies all the same.
	case "user-agent", "accept", "accept-encoding", "accept-language", "cache-control", "pragma", "tracestate",
		"priority", "sec-fetch-mode", "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto",
		"x-real-ip", "x-request-id", "x-correlation-id", "x-amzn-trace-id", "x-cloud-trace-context":
		f = fieldIgnored
	default:
		return 0, nil, false
	}
	value = bytes.Trim(line[n+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c > '~' {
			return 0, nil, false
		}
	}
	return f, value, true
}

// plainHost takes names, addresses and ports.
func plainHost(value []byte) bool {
	for _, c := range value {
		if !alphanumeric(c) && c != '-' && c != '.' && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return len(value) > 0
}

// length reads a Content-Length.
func length(value []byte) (n int, ok bool) {
	if len(value) == 0 || len(value) > 9 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// plainJSON takes the usual ways to say JSON in UTF-8.
func plainJSON(value []byte) bool {
	const media = "application/json"
	if len(value) < len(media) || !bytes.EqualFold(value[:len(media)], []byte(media)) {
		return false
	}
	rest := bytes.TrimLeft(value[len(media):], " ")
	return len(rest) == 0 || bytes.EqualFold(bytes.ReplaceAll(rest, []byte(" "), nil), []byte(";charset=utf-8"))
}
