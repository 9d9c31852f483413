package testserver

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// adminTimeout bounds one request of an operator. A cluster without a leader does not answer.
const adminTimeout = 2 * time.Second

// StreamLeader returns the name of the server that leads a stream of a cluster: "n0", "n1"… as StartNATSCluster names
// them. It waits until there is one. url may list several servers.
func StreamLeader(t testing.TB, url, stream string) string {
	t.Helper()
	leader := ""
	admin(t, url, "$JS.API.STREAM.INFO."+stream, func(answer []byte) error {
		var info struct {
			Cluster struct {
				Leader string `json:"leader"`
			} `json:"cluster"`
		}
		if err := json.Unmarshal(answer, &info); err != nil {
			return err
		}
		if leader = info.Cluster.Leader; leader == "" {
			return fmt.Errorf("no leader: %s", answer)
		}
		return nil
	})
	return leader
}

// StepDown makes the leader of a stream hand over to another server, as an operator does before maintenance.
func StepDown(t testing.TB, url, stream string) {
	t.Helper()
	admin(t, url, "$JS.API.STREAM.LEADER.STEPDOWN."+stream, func(answer []byte) error {
		var done struct {
			Success bool `json:"success"`
		}
		if err := json.Unmarshal(answer, &done); err != nil {
			return err
		}
		if !done.Success {
			return fmt.Errorf("refused: %s", answer)
		}
		return nil
	})
}

// admin asks JetStream until the answer is one that read takes.
func admin(t testing.TB, url, subject string, read func(answer []byte) error) {
	t.Helper()
	conn, err := nats.Connect(url, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		t.Fatalf("testserver: %v", err)
	}
	defer conn.Close()
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for deadline := time.Now().Add(startTimeout); ; <-pace.C {
		answer, err := conn.Request(subject, nil, adminTimeout)
		if err == nil {
			err = read(answer.Data)
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("testserver: %s: waited %v: %v", subject, startTimeout, err)
		}
	}
}

// AwaitJetStream waits until a cluster has agreed on who leads, and takes streams.
func AwaitJetStream(t testing.TB, url string) {
	t.Helper()
	admin(t, url, "$JS.API.INFO", func(answer []byte) error {
		var info struct {
			Error *json.RawMessage `json:"error"`
		}
		if err := json.Unmarshal(answer, &info); err != nil {
			return err
		}
		if info.Error != nil {
			return fmt.Errorf("refused: %s", answer)
		}
		return nil
	})
}
