package testserver

import (
	"fmt"
	"regexp"
	"slices"
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
	nodes := clusterPrimaries(t)
	for _, n := range nodes {
		n.awaitCluster()
	}
	return nodes
}

// clusterPrimaries starts three nodes that share the slots and are told of each other.
func clusterPrimaries(t testing.TB, args ...string) []*RedisServer {
	t.Helper()
	nodes := make([]*RedisServer, 3)
	for i := range nodes {
		n := startClusterNode(t, args...)
		first, last := i*slots/len(nodes), (i+1)*slots/len(nodes)-1
		n.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last))
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if nodes[i] = n; i > 0 {
			n.meet(nodes[0])
		}
	}
	return nodes
}

func startClusterNode(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	return StartRedis(t, RedisOptions{Args: append([]string{
		"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(freePort(t)),
		"--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000",
		"--cluster-allow-replica-migration", "no", "--repl-diskless-sync-delay", "0",
	}, args...)})
}

// meet makes a node known to the cluster of another.
func (s *RedisServer) meet(other *RedisServer) {
	s.t.Helper()
	s.Do("CLUSTER", "MEET", other.Host(), other.Port(), strings.TrimSpace(other.opts.Args[3]))
}

// awaitCluster waits until a node knows who has which slots.
func (s *RedisServer) awaitCluster() {
	s.t.Helper()
	s.Await("cluster_slots_ok:"+strconv.Itoa(slots), "CLUSTER", "INFO")
	s.Await("cluster_state:ok", "CLUSTER", "INFO")
}

// Shards are the nodes of a Redis Cluster: Replicas[i] follows Primaries[i].
type Shards struct {
	Primaries, Replicas []*RedisServer
}

// RedisClusterWithReplicas starts a Redis Cluster of three primaries with a replica each, and waits until all follow. A
// replica takes over some two seconds after its primary is gone. args are further settings of each node.
func RedisClusterWithReplicas(t testing.TB, args ...string) Shards {
	t.Helper()
	g := Shards{Primaries: clusterPrimaries(t, args...)}
	for _, p := range g.Primaries {
		r := startClusterNode(t, args...)
		r.meet(g.Primaries[0])
		id := p.Do("CLUSTER", "MYID")
		r.Await(id, "CLUSTER", "NODES")
		r.Await("OK", "CLUSTER", "REPLICATE", id)
		g.Replicas = append(g.Replicas, r)
	}
	for i := range g.Primaries {
		g.Primaries[i].awaitCluster()
		g.Replicas[i].awaitCluster()
		g.Replicas[i].awaitFollows(g.Primaries[i])
	}
	// Who is elected is decided by primaries that know of the replica.
	for _, p := range g.Primaries {
		for i, r := range g.Replicas {
			p.Await(r.Do("CLUSTER", "MYID"), "CLUSTER", "REPLICAS", g.Primaries[i].Do("CLUSTER", "MYID"))
		}
	}
	return g
}

// SentinelGroup is a primary with a replica, watched by one sentinel.
type SentinelGroup struct {
	Name                       string
	Sentinel, Primary, Replica *RedisServer
}

// RedisSentinel starts a group in which the sentinel alone decides on a failover, one second after the primary is gone.
// args are further settings of the primary and of the replica.
func RedisSentinel(t testing.TB, args ...string) SentinelGroup {
	t.Helper()
	g := SentinelGroup{Name: "sheaf-primary", Primary: StartRedis(t, RedisOptions{Args: args})}
	g.Replica = StartRedisReplica(t, g.Primary, args...)
	g.Sentinel = newRedis(t, RedisOptions{})
	g.Sentinel.ready = "Sentinel ID is"
	// A server that a busy machine starves for a second or two must not pass for dead.
	// The failover-timeout says when a failover that came to nothing is tried again: after twice that time, which would
	// be six minutes.
	g.Sentinel.confFile(fmt.Sprintf("sentinel monitor %[1]s %[2]s %[3]s 1\nsentinel down-after-milliseconds %[1]s 4000\n"+
		"sentinel failover-timeout %[1]s 2000\n", g.Name, g.Primary.Host(), g.Primary.Port()))
	g.Sentinel.Start()
	t.Cleanup(g.Sentinel.finish)
	// A sentinel promotes only a replica that it has asked itself.
	g.Sentinel.Await("master-link-status\nok", "SENTINEL", "REPLICAS", g.Name)
	return g
}

// StartRedisReplica starts a read-only replica of a server and waits until it follows. args are further settings.
func StartRedisReplica(t testing.TB, of *RedisServer, args ...string) *RedisServer {
	t.Helper()
	of.Do("CONFIG", "SET", "repl-diskless-sync-delay", "0") // else it waits 5 s for more replicas to come
	s := StartRedis(t, RedisOptions{Args: append([]string{
		"--replicaof", of.Host() + " " + of.Port(), "--repl-diskless-sync-delay", "0",
	}, args...)})
	s.awaitFollows(of)
	return s
}

// acknowledged is a replica that has said how far it has come.
var acknowledged = regexp.MustCompile(`port=(\d+),state=online,offset=[1-9]`)

// awaitFollows waits until both sides know that the server follows another: a primary counts a replica only after its
// first word, which comes up to a second late.
func (s *RedisServer) awaitFollows(of *RedisServer) {
	s.t.Helper()
	s.Await("master_link_status:up", "INFO", "replication")
	of.Do("FUNCTION", "FLUSH") // a write without a key, for the replica to acknowledge
	of.await("that replica's first word", func(answer string) bool {
		return slices.ContainsFunc(acknowledged.FindAllStringSubmatch(answer, -1), func(m []string) bool { return m[1] == s.Port() })
	}, "INFO", "replication")
}
