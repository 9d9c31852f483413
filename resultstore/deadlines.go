package resultstore

import (
	"time"

	"github.com/sheafml/sheaf/job"
)

// deadline is when the record of a job ends.
type deadline struct {
	at time.Time
	id job.ID
}

// deadlines is a binary heap with the earliest at 0. It is container/heap without an allocation for each push.
type deadlines []deadline

func (h *deadlines) push(d deadline) {
	*h = append(*h, d)
	s := *h
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if !s[i].at.Before(s[parent].at) {
			return
		}
		s[i], s[parent] = s[parent], s[i]
		i = parent
	}
}

func (h *deadlines) pop() deadline {
	s := *h
	top, last := s[0], len(s)-1
	s[0] = s[last]
	s = s[:last]
	*h = s
	for i := 0; ; {
		least := 2*i + 1
		if least >= len(s) {
			return top
		}
		if right := least + 1; right < len(s) && s[right].at.Before(s[least].at) {
			least = right
		}
		if !s[least].at.Before(s[i].at) {
			return top
		}
		s[i], s[least] = s[least], s[i]
		i = least
	}
}
