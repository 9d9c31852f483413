package testserver

import (
	"fmt"
	"strings"
	"testing"
)

// StartNATSCluster starts a cluster of n nats-server processes with JetStream. It may take a moment after that until
// the cluster has agreed on a leader and takes streams.
func StartNATSCluster(t testing.TB, n int) []*NATSServer {
	t.Helper()
	ports, routes := make([]int, n), make([]string, n)
	for i := range ports {
		ports[i] = freePort(t)
		routes[i] = fmt.Sprintf("nats-route://127.0.0.1:%d", ports[i])
	}
	servers := make([]*NATSServer, n)
	for i := range servers {
		servers[i] = StartNATS(t, fmt.Sprintf("server_name: n%d\ncluster { name: sheaf-test, listen: \"127.0.0.1:%d\", routes: [ %s ] }\n",
			i, ports[i], strings.Join(routes, ", ")))
	}
	return servers
}
