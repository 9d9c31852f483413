package main

import "time"

// cpuBefore is the CPU time of processes at one moment.
type cpuBefore struct {
	subjects []subject
	used     []time.Duration
}

// cpuOf reads it. Where it cannot be read, as on other systems than Linux, nothing is reported.
func cpuOf(subjects []subject) *cpuBefore {
	b := &cpuBefore{subjects: subjects}
	for _, s := range subjects {
		used, err := cpuTime(s.pid)
		if err != nil {
			return nil
		}
		b.used = append(b.used, used)
	}
	return b
}

// since returns the µs of CPU time that each process has used since then for each of n pieces of work.
func (b *cpuBefore) since(n int) map[string]float64 {
	if b == nil || n == 0 {
		return nil
	}
	now := cpuOf(b.subjects)
	if now == nil {
		return nil
	}
	per := make(map[string]float64)
	for i, s := range b.subjects {
		per[s.name] = float64((now.used[i] - b.used[i]).Microseconds()) / float64(n)
	}
	return per
}
