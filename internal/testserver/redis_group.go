package testserver

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// RedisCluster starts a Redis Cluster of three primaries without replicas, and waits until it serves. A slot whose
// primary is down fails alone.
func RedisCluster(t testing.TB) []*RedisServer {
	t.Helper()
	nodes := make([]*RedisServer, 3)
	for i := range nodes {
		nodes[i] = StartRedis(t, RedisOptions{Args: []string{
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)),
			"--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000",
		}})
	}
	for i, n := range nodes {
		first, last := i*slots/len(nodes), (i+1)*slots/len(nodes)-1
		n.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last))
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, n := range nodes[1:] {
		n.Do("CLUSTER", "MEET", nodes[0].Host(), nodes[0].Port(), strings.TrimSpace(nodes[0].opts.Args[3]))
	}
	for _, n := range nodes {
		n.Await("cluster_slots_ok:"+strconv.Itoa(slots), "CLUSTER", "INFO")
		n.Await("cluster_state:ok", "CLUSTER", "INFO")
	}
	return nodes
}

// SentinelGroup is a primary with a replica, watched by one sentinel.
type SentinelGroup struct {
	Name                       string
	Sentinel, Primary, Replica *RedisServer
}

// RedisSentinel starts a group in which the sentinel alone decides on a failover, one second after the primary is gone.
func RedisSentinel(t testing.TB) SentinelGroup {
	t.Helper()
	g := SentinelGroup{Name: "sheaf-primary", Primary: StartRedis(t, RedisOptions{})}
	g.Replica = StartRedisReplica(t, g.Primary)
	g.Sentinel = newRedis(t, RedisOptions{})
	g.Sentinel.ready = "Sentinel ID is"
	// The failover-timeout says when a failover that came to nothing is tried again: after twice that time, which would
	// be six minutes.
	g.Sentinel.confFile(fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 1\nsentinel down-after-milliseconds %[1]s 1000\n"+
		"sentinel failover-timeout %[1]s 2000\n", g.Name, g.Primary.Host(), g.Primary.Port()))
	g.Sentinel.Start()
	t.Cleanup(g.Sentinel.finish)
	// A sentinel promotes only a replica that it has asked itself.
	g.Sentinel.Await("master-link-status\nok", "SENTINEL", "REPLICAS", g.Name)
	return g
}

// StartRedisReplica starts a read-only replica of a server and waits until it follows.
func StartRedisReplica(t testing.TB, of *RedisServer) *RedisServer {
	t.Helper()
	s := StartRedis(t, RedisOptions{Args: []string{"--replicaof", of.Host() + " " + of.Port(), "--repl-diskless-sync-delay", "0"}})
	s.Await("master_link_status:up", "INFO", "replication")
	return s
}
