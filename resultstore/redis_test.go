package resultstore_test

import (
	"testing"

	"github.com/sheafml/sheaf/internal/testserver"
	"github.com/sheafml/sheaf/resultstore"
	"github.com/sheafml/sheaf/resultstore/storetest"
)

// at is the default settings for one server.
func at(s *testserver.RedisServer) resultstore.Config {
	cfg := resultstore.DefaultConfig()
	cfg.URL = "redis://" + s.Addr
	return cfg
}

func open(t *testing.T, cfg resultstore.Config, opts ...resultstore.Option) *resultstore.Redis {
	t.Helper()
	r, err := resultstore.OpenRedis(t.Context(), cfg, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

func TestRedis(t *testing.T) {
	server := testserver.StartRedis(t, testserver.RedisOptions{})
	storetest.Run(t, func(t *testing.T) resultstore.Store {
		t.Helper()
		return open(t, at(server))
	})
}

func TestRedisCluster(t *testing.T) {
	t.Parallel()
	cfg := resultstore.DefaultConfig()
	for _, n := range testserver.RedisCluster(t) {
		cfg.Addrs = append(cfg.Addrs, n.Addr)
	}
	storetest.Run(t, func(t *testing.T) resultstore.Store {
		t.Helper()
		return open(t, cfg)
	})
}

func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	group := testserver.RedisSentinel(t)
	cfg := resultstore.DefaultConfig()
	cfg.Addrs, cfg.MasterName = []string{group.Sentinel.Addr}, group.Name
	storetest.Run(t, func(t *testing.T) resultstore.Store {
		t.Helper()
		return open(t, cfg)
	})
}
