package testserver

import (
	"testing"

	"github.com/nats-io/nats.go"
)

// Publish sends one message as any program that speaks NATS would, and waits for JetStream's acknowledgement.
func Publish(t testing.TB, url, subject string, header map[string]string, body []byte) {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatalf("testserver: %v", err)
	}
	defer conn.Close()
	msg := nats.NewMsg(subject)
	msg.Data = body
	for key, value := range header {
		msg.Header[key] = []string{value}
	}
	reply, err := conn.RequestMsg(msg, startTimeout)
	if err != nil {
		t.Fatalf("testserver: publish to %s: %v", subject, err)
	}
	if len(reply.Data) == 0 || reply.Data[0] != '{' {
		t.Fatalf("testserver: publish to %s: no acknowledgement: %q", subject, reply.Data)
	}
}
