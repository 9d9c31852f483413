package main

import (
	"fmt"
	"io"
	"slices"
)

// judge wants the cost of a submit to fall with the number in flight: what comes together is to travel together.
func (r *grpcReport) judge() {
	for _, name := range []string{wayHTTPSubmit, wayGRPCSubmit, wayBulk} {
		rows := r.medians(name)
		if len(rows) < 2 {
			continue
		}
		first, last := rows[0], rows[len(rows)-1]
		if a, b := first.together(), last.together(); a > 0 && b >= a {
			r.miss("%s: a job costs %.1f µs of CPU with %d in flight, and %.1f with %d; it is to cost less", name, b, last.InFlight, a, first.InFlight)
		}
	}
}

// together is the CPU time a job of all processes but this one.
func (p *loadPoint) together() float64 {
	sum := 0.0
	for name, us := range p.CPU {
		if name != "bench" {
			sum += us
		}
	}
	return sum
}

// medians returns the medians of the rounds of one way, by what is in flight.
func (r *grpcReport) medians(name string) []loadPoint {
	var rows []loadPoint
	for i := range r.Points {
		p := &r.Points[i]
		if p.Way == name && !slices.ContainsFunc(rows, func(q loadPoint) bool { return q.InFlight == p.InFlight }) {
			rows = append(rows, r.median(name, p.InFlight))
		}
	}
	slices.SortFunc(rows, func(a, b loadPoint) int { return a.InFlight - b.InFlight })
	return rows
}

func (r *grpcReport) median(name string, inFlight int) loadPoint {
	var rate, p50, p99 []float64
	cpu := map[string][]float64{}
	m := loadPoint{Way: name, InFlight: inFlight, CPU: map[string]float64{}}
	for i := range r.Points {
		p := &r.Points[i]
		if p.Way != name || p.InFlight != inFlight {
			continue
		}
		rate, p50, p99 = append(rate, p.Rate), append(p50, p.P50), append(p99, p.P99)
		for process, us := range p.CPU {
			cpu[process] = append(cpu[process], us)
		}
		m.Jobs += p.Jobs
	}
	m.Rate, m.P50, m.P99 = summarize(rate).Median, summarize(p50).Median, summarize(p99).Median
	for process, us := range cpu {
		m.CPU[process] = summarize(us).Median
	}
	return m
}

func (r *grpcReport) print(w io.Writer) {
	r.printHead(w, "Sheaf with calls in flight, over HTTP and gRPC")
	printf(w, "  model     digits, one row a job; gRPC over up to %d connections, HTTP over one for each request in flight\n", r.Connections)
	printf(w, "\nClosed loops; CPU time in µs a job until it is finished, together without the client; medians of the rounds\n")
	t := newTable(w)
	printf(t, "way\tin flight\tjobs/s\tp50 ms\tp99 ms\tserve\tnats\tworker\tredis\ttogether\tclient\t\n")
	for _, name := range []string{wayHTTPSubmit, wayGRPCSubmit, wayBulk, wayPredict, wayInfer} {
		rows := r.medians(name)
		for i := range rows {
			p := &rows[i]
			printf(t, "%s\t%d\t%s\t%.2f\t%.2f\t%s\t%s\t%s\t%s\t%.1f\t%s\t\n", p.Way, p.InFlight, thousands(int(p.Rate)), p.P50, p.P99,
				p.cpu("serve"), p.cpu("nats-server"), p.cpu("worker"), p.cpu("redis-server"), p.together(), p.cpu("bench"))
		}
	}
	_ = t.Flush()
	printf(w, "  finished and right %s\n", thousands(r.Right))
	r.printMissed(w)
}

func (p *loadPoint) cpu(process string) string {
	us, ok := p.CPU[process]
	if !ok {
		return "-"
	}
	return fmt.Sprintf("%.1f", us)
}
