package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sheafml/sheaf/queue"
)

func TestDefaultConfigIsValid(t *testing.T) {
	cfg := queue.DefaultConfig()
	if err := cfg.Validate(); err != nil {
		t.Error(err)
	}
	for _, url := range []string{"localhost", "a:4222, b:4222", "tls://u:p@a:1", "ws://a", "nats://[::1]:4222,", "wss://a/path"} {
		cfg.URL = url
		if err := cfg.Validate(); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func TestValidateNamesEveryFaultAtOnce(t *testing.T) {
	cfg := queue.Config{
		URL: "http://u:hidden@a:1,nats://u:hid%den@", User: "u", Password: "hidden", Token: "hidden", CredsFile: "/nowhere/creds",
		TLS: queue.TLSConfig{CAFile: "/nowhere/ca", CertFile: "/nowhere/cert"}, Domain: "a.b", Replicas: 6,
		Dead: queue.DeadConfig{MaxAge: -1}, Interactive: queue.LaneConfig{MaxMsgs: -2},
		Publish: queue.PublishConfig{Timeout: time.Hour, MaxJobs: 1 << 20},
	}
	err := cfg.Validate()
	if err == nil {
		t.Fatal("it is valid")
	}
	for _, want := range []string{
		`URL 1 of the list has the scheme "http"`, "URL 2 of the list is not one", "choose one of user and password, token",
		"credentials file: stat /nowhere/creds", "TLS CA file", "both the certificate file and the key file", "domain",
		"connect timeout", "request timeout", "replicas 6", "lane interactive: ack wait", "lane bulk: ack wait",
		"lane interactive: maximum of messages -2", "lane bulk: maximum of deliveries", "maximum of unacknowledged", "maximum bytes",
		"messages a subject", "dead letters: maximum age", "dead letters: maximum bytes", "duplicate window 0s: at least", "tenant shares 0: 1 to 64", "not less than the publish timeout",
		"publish: maximum of jobs a message 1048576", "publish: maximum bytes a message", "publish: maximum in flight",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not named: %s", want)
		}
	}
	if strings.Contains(err.Error(), "hid") {
		t.Errorf("the error shows a password: %v", err)
	}
	if _, err := queue.Connect(t.Context(), cfg); err == nil {
		t.Error("Connect takes it")
	}
}
