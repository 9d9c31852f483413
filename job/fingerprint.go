package job

import (
	"crypto/sha256"
	"encoding/binary"
)

// Fingerprint tells requests apart that came under the same Idempotency-Key: it is of what is asked for, the model and
// its version, inputs, outputs, parameters and whom to tell, and not of how it is written, nor when, on which lane, or under which
// id. It is never 0, which stands for none.
func Fingerprint(j *Job) uint64 {
	asked := Job{Version: j.Version, Inputs: j.Inputs, Outputs: j.Outputs, Parameters: j.Parameters, Webhook: j.Webhook}
	h := sha256.New()
	h.Write([]byte(j.Model))
	h.Write([]byte{0}) // a model's name has no NUL, so the pair is unambiguous
	h.Write(AppendJob(nil, &asked))
	return max(binary.LittleEndian.Uint64(h.Sum(nil)), 1)
}

// Clash reports whether two fingerprints are of different requests. One that is not known clashes with none.
func Clash(a, b uint64) bool { return a != 0 && b != 0 && a != b }
