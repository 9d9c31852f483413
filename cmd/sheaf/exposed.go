package main

import (
	"fmt"
	"net"
)

// checkExposed refuses an address that others reach unless somebody asks who they are, or the operator wants it so. One
// that is malformed is checkAddress's to name.
func checkExposed(flag, addr string, guarded, insecure bool) error {
	if guarded || insecure || !reached(addr) {
		return nil
	}
	return withCode(exitUsage, fmt.Errorf("--%s %s can be reached from other machines, and everybody there could submit jobs and read results: "+
		"let callers say who they are (--auth keys, see sheaf key; or --tls-client-ca), listen on 127.0.0.1 behind a proxy that does, or say --insecure", flag, addr))
}

// checkExposedNATS is checkExposed for the NATS of sheaf dev, which asks nobody: whoever reaches it can go around
// everything that the API asks, and write API keys.
func checkExposedNATS(addr string, insecure bool) error {
	if insecure || !reached(addr) {
		return nil
	}
	return withCode(exitUsage, fmt.Errorf("--nats-addr %s can be reached from other machines, and the NATS of sheaf dev asks nobody who they are: "+
		"listen on 127.0.0.1, run a nats-server with users of its own (sheaf serve --nats-url), or say --insecure", addr))
}

// reached reports whether others can reach an address.
func reached(addr string) bool {
	_, _, err := net.SplitHostPort(addr)
	return err == nil && !loopback(addr)
}
