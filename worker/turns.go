package worker

// turns is the order in which strands take rows: a heap by round, then by the tenant's number, then by the age of the
// first job. With one tenant it is one entry; with n a turn costs a few comparisons, log n at most.
//
// An account is shared by all strands of its tenant, in the turns of the lane and of each group. So the entries keep a
// copy of it, which may be old, and is brought up to date when it comes first. This is in order because accounts and
// ages only grow: an old entry is never later than it should be.
type turns struct {
	which   int // inLane or inGroup, a place in strand.at
	quantum int64
	list    []turn
}

type turn struct {
	round, number int64
	arrived       uint64
	strand        *strand
}

func (t *turn) before(u *turn) bool {
	if t.round != u.round {
		return t.round < u.round
	}
	if t.number != u.number {
		return t.number < u.number
	}
	return t.arrived < u.arrived
}

// of is the entry of a strand as it stands now.
func (h *turns) of(s *strand) turn {
	return turn{round: s.tenant.served / h.quantum, number: s.tenant.number, arrived: s.head.arrived, strand: s}
}

// first returns the strand whose turn it is, nil if there is none.
func (h *turns) first() *strand {
	switch len(h.list) {
	case 0:
		return nil
	case 1:
		return h.list[0].strand
	}
	for {
		now := h.of(h.list[0].strand)
		if now == h.list[0] {
			return now.strand
		}
		h.list[0] = now
		h.down(0)
	}
}

// firstOf is first among the strands that ok accepts. It looks at all of them.
func (h *turns) firstOf(ok func(*strand) bool) *strand {
	var best turn
	for i := range h.list {
		s := h.list[i].strand
		if !ok(s) {
			continue
		}
		if now := h.of(s); best.strand == nil || now.before(&best) {
			best = now
		}
	}
	return best.strand
}

func (h *turns) push(s *strand) {
	h.list = append(h.list, h.of(s))
	s.at[h.which] = len(h.list) - 1
	h.up(len(h.list) - 1)
}

func (h *turns) remove(s *strand) {
	i, end := s.at[h.which], len(h.list)-1
	last := h.list[end]
	h.list[end] = turn{}
	h.list = h.list[:end]
	if i == end {
		return
	}
	h.put(i, last)
	h.up(i)
	h.down(last.strand.at[h.which])
}

func (h *turns) put(i int, t turn) {
	h.list[i] = t
	t.strand.at[h.which] = i
}

func (h *turns) up(i int) {
	t := h.list[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !t.before(&h.list[parent]) {
			break
		}
		h.put(i, h.list[parent])
		i = parent
	}
	h.put(i, t)
}

func (h *turns) down(i int) {
	t := h.list[i]
	for {
		child := 2*i + 1
		if child >= len(h.list) {
			break
		}
		if right := child + 1; right < len(h.list) && h.list[right].before(&h.list[child]) {
			child = right
		}
		if !h.list[child].before(&t) {
			break
		}
		h.put(i, h.list[child])
		i = child
	}
	h.put(i, t)
}
