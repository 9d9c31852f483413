package job

import "fmt"

// State is where a job is in its life. Queued and running are derived from JetStream and stored nowhere; the others
// are terminal and stand in the job's record.
type State uint8

// The states of a job.
const (
	Unknown   State = 0 // no such job, or its record's time to live is over
	Queued    State = 1
	Running   State = 2
	Succeeded State = 3
	Failed    State = 4
	Canceled  State = 5
	Expired   State = 6
)

var stateNames = [...]string{"unknown", "queued", "running", "succeeded", "failed", "canceled", "expired"}

// String returns the name used in the HTTP API.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Terminal reports whether a job in this state is finished. A terminal state never changes.
func (s State) Terminal() bool { return s >= Succeeded && s <= Expired }
