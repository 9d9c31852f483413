package resultstore_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/resultstore"
)

func TestConfigValidate(t *testing.T) {
	const good = ""
	for _, c := range []struct {
		name string
		set  func(*resultstore.Config)
		want string // good, or what the error says
	}{
		{"defaults", func(*resultstore.Config) {}, good},
		{"URL with all", func(c *resultstore.Config) { c.URL = "rediss://u:p%40ss@redis.example:6380/2" }, good},
		{"URL without a port", func(c *resultstore.Config) { c.URL = "redis://redis.example" }, good},
		{"URL with only a password", func(c *resultstore.Config) { c.URL = "redis://:p@redis.example" }, good},
		{"URL of IPv6", func(c *resultstore.Config) { c.URL = "redis://[::1]:6379/0" }, good},
		{"URL of a socket", func(c *resultstore.Config) { c.URL = "unix:///run/redis.sock?db=1" }, good},
		{"sentinels", func(c *resultstore.Config) { c.URL, c.Addrs, c.MasterName = "", []string{"a:1", "b:2"}, "m" }, good},
		{"sentinels with credentials", func(c *resultstore.Config) {
			c.Addrs, c.MasterName, c.SentinelUsername, c.SentinelPassword = []string{"a:1"}, "m", "u", "p"
		}, good},
		{"cluster by addresses", func(c *resultstore.Config) { c.Addrs = []string{"a:1", "b:2"} }, good},
		{"cluster by URL", func(c *resultstore.Config) { c.Cluster = true }, good},
		{"no retries", func(c *resultstore.Config) { c.MaxRetries = 0 }, good},
		{"replicas", func(c *resultstore.Config) { c.WaitReplicas = 2 }, good},
		{"timeout of replicas that are not waited for", func(c *resultstore.Config) { c.WaitTimeout = time.Hour }, good},
		{"database beside the URL", func(c *resultstore.Config) { c.DB = 3 }, good},

		{"no URL", func(c *resultstore.Config) { c.URL = "" }, "the URL is empty"},
		{"other scheme", func(c *resultstore.Config) { c.URL = "http://h3ll0:pw@x" }, "scheme"},
		{"no scheme", func(c *resultstore.Config) { c.URL = "127.0.0.1:6379" }, "the URL"},
		{"no host", func(c *resultstore.Config) { c.URL = "redis:///1" }, "no host"},
		{"unescaped password", func(c *resultstore.Config) { c.URL = "redis://u:h3ll0#%zz@x" }, "cannot be read"},
		{"user without password", func(c *resultstore.Config) { c.URL = "redis://u@x" }, "no password"},
		{"database that is none", func(c *resultstore.Config) { c.URL = "redis://x/h3ll0" }, "not a number"},
		{"negative database of the URL", func(c *resultstore.Config) { c.URL = "redis://x/-1" }, "not a number"},
		{"parameters", func(c *resultstore.Config) { c.URL = "redis://x/1?password=h3ll0" }, "parameters"},
		{"socket without a path", func(c *resultstore.Config) { c.URL = "unix://" }, "no path"},
		{"two databases", func(c *resultstore.Config) { c.URL, c.DB = "redis://x/1", 2 }, "give it once"},
		{"negative database", func(c *resultstore.Config) { c.DB = -1 }, "database -1"},
		{"database in a cluster", func(c *resultstore.Config) { c.Addrs, c.DB = []string{"a:1", "b:1"}, 1 }, "only database 0"},
		{"address without a port", func(c *resultstore.Config) { c.Addrs = []string{"a:1", "b"} }, "address 2"},
		{"URL as an address", func(c *resultstore.Config) { c.Addrs = []string{"redis://u:h3ll0@x:1"} }, "address 1"},
		{"master name with a URL", func(c *resultstore.Config) { c.MasterName = "m" }, "addresses of the sentinels"},
		{"sentinel and cluster", func(c *resultstore.Config) { c.Addrs, c.MasterName, c.Cluster = []string{"a:1"}, "m", true }, "choose one"},
		{"sentinel credentials alone", func(c *resultstore.Config) { c.SentinelPassword = "h3ll0" }, "need a master name"},
		{"user alone", func(c *resultstore.Config) { c.Username = "u" }, "needs a password"},
		{"sentinel user alone", func(c *resultstore.Config) {
			c.Addrs, c.MasterName, c.SentinelUsername = []string{"a:1"}, "m", "u"
		}, "needs a password for the sentinels"},
		{"half a certificate", func(c *resultstore.Config) { c.TLS.CertFile = "config_test.go" }, "both the certificate file and the key file"},
		{"missing file", func(c *resultstore.Config) { c.TLS.CAFile = filepath.Join("no", "such.pem") }, "TLS CA file"},
		{"prefix with braces", func(c *resultstore.Config) { c.Prefix = "{a}" }, "key prefix"},
		{"long prefix", func(c *resultstore.Config) { c.Prefix = strings.Repeat("x", 65) }, "key prefix"},
		{"time to live", func(c *resultstore.Config) { c.DefaultTTL = 0 }, "default time to live"},
		{"user in the URL, password apart", func(c *resultstore.Config) { c.URL, c.Password = "rediss://sheaf@redis:6379/0", "h3ll0" }, good},
		{"pool", func(c *resultstore.Config) { c.PoolSize = -1 }, "pool size"},
		{"connect timeout", func(c *resultstore.Config) { c.ConnectTimeout = 0 }, "connect timeout"},
		{"read timeout", func(c *resultstore.Config) { c.ReadTimeout = 0 }, "read timeout"},
		{"write timeout", func(c *resultstore.Config) { c.WriteTimeout = -1 }, "write timeout"},
		{"negative replicas", func(c *resultstore.Config) { c.WaitReplicas = -1 }, "replicas to wait for -1"},
		{"endless wait for replicas", func(c *resultstore.Config) { c.WaitReplicas, c.WaitTimeout = 1, 0 }, "timeout of waiting for replicas 0s"},
		{"wait for replicas as long as a read", func(c *resultstore.Config) {
			c.WaitReplicas, c.WaitTimeout = 1, c.ReadTimeout
		}, "less than the read timeout, 3s"},
		{"retries", func(c *resultstore.Config) { c.MaxRetries = 11 }, "retries 11"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := resultstore.DefaultConfig()
			c.set(&cfg)
			err := cfg.Validate()
			if c.want == good {
				if err != nil {
					t.Fatalf("Validate: %v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("Validate: %v; want it to say %q", err, c.want)
			}
			if strings.Contains(err.Error(), "h3ll0") {
				t.Errorf("the error repeats what may be a password: %v", err)
			}
		})
	}
}

func TestConfigValidateNamesEveryFault(t *testing.T) {
	cfg := resultstore.Config{PoolSize: -1, MaxRetries: -1, Prefix: " "}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("Validate found nothing")
	}
	for _, want := range []string{"URL", "pool size", "retries", "key prefix", "time to live", "connect timeout", "read timeout", "write timeout"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Validate does not name %q:\n%v", want, err)
		}
	}
	if _, err := resultstore.OpenRedis(t.Context(), cfg); err == nil {
		t.Error("OpenRedis took the settings")
	}
}
