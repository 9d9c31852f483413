package webhook

import (
	"encoding/base64"
	"net/http"
	"testing"
	"time"
)

// The example of the standard's own libraries.
func TestSignatureOfTheStandard(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	sign(h, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`), [][]byte{key, key})
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	if got := h.Get(HeaderSignature); got != want+" "+want || h.Get(HeaderTimestamp) != "1614265330" {
		t.Errorf("got %q at %q, expected twice %q", got, h.Get(HeaderTimestamp), want)
	}
}
