package table

import (
	"bytes"

	"github.com/sheafml/sheaf/job"
)

// guesses tells by cells what the columns of a table are. A few bad cells do not change a column's kind: it is what most
// of the cells are.
type guesses struct {
	list []*guess
	at   map[string]int
}

// guess is what the cells of one column were.
type guess struct {
	name    string
	votes   [Object + 1]int
	lengths map[int]int // of lists
}

// column returns the guess of a column, which is added if it is new.
func (g *guesses) column(name string) *guess {
	if at, ok := g.at[name]; ok {
		return g.list[at]
	}
	if g.at == nil {
		g.at = map[string]int{}
	}
	g.at[name] = len(g.list)
	c := &guess{name: name, lengths: map[int]int{}}
	g.list = append(g.list, c)
	return c
}

// columns returns what has been found.
func (g *guesses) columns() []Column {
	columns := make([]Column, len(g.list))
	for i, c := range g.list {
		columns[i] = Column{Name: c.name, Kind: c.kind(), Length: -1}
		if columns[i].Kind == List {
			columns[i].Length = c.length()
		}
	}
	return columns
}

func (c *guess) kind() Kind {
	best, most := Unknown, 0
	if n := c.votes[Integer] + c.votes[Number]; n > 0 {
		best, most = Integer, n
		if c.votes[Number] > 0 {
			best = Number
		}
	}
	for _, kind := range []Kind{Bool, Text, List, Object} {
		if c.votes[kind] > most {
			best, most = kind, c.votes[kind]
		}
	}
	return best
}

// length is what three of four lists have, -1 if there is none such.
func (c *guess) length() int {
	for n, votes := range c.lengths {
		if 4*votes >= 3*c.votes[List] {
			return n
		}
	}
	return -1
}

// json notes a cell that is JSON.
func (c *guess) json(value []byte) {
	switch value[0] {
	case 'n':
	case 't', 'f':
		c.votes[Bool]++
	case '"':
		c.votes[Text]++
	case '{':
		c.votes[Object]++
	case '[':
		s := lineScan{src: value}
		n := 0
		if !s.countList(&n) {
			c.votes[Object]++
			return
		}
		c.votes[List]++
		c.lengths[n]++
	default:
		if bytes.ContainsAny(value, ".eE") {
			c.votes[Number]++
		} else {
			c.votes[Integer]++
		}
	}
}

// countList counts the elements of a list in all its depth; false if it has anything but numbers, booleans and texts.
func (s *lineScan) countList(n *int) bool {
	if s.open(']') {
		return true
	}
	for {
		switch s.peek() {
		case '[':
			if !s.countList(n) {
				return false
			}
		case '{', 'n':
			return false
		default:
			if !s.skip(0) {
				return false
			}
			*n++
		}
		if done, ok := s.after(']'); done || !ok {
			return ok
		}
	}
}

// text notes a cell of a CSV.
func (c *guess) text(cell []byte) {
	cell = bytes.TrimSpace(cell)
	if len(cell) == 0 {
		return
	}
	if isJSON(cell) && cell[0] != '"' {
		if string(cell) != "null" {
			c.json(cell)
		}
		return
	}
	if bytes.EqualFold(cell, []byte("true")) || bytes.EqualFold(cell, []byte("false")) {
		c.votes[Bool]++
		return
	}
	if _, ok := appendTextFloat(nil, job.FP64, cell); ok && !leadsWithZero(cell) {
		c.votes[Number]++
		return
	}
	c.votes[Text]++
}

// leadsWithZero says that a text is a code such as 00123 rather than a number.
func leadsWithZero(cell []byte) bool {
	return len(trimZeros(cell)) < len(cell)
}

// isJSON reports whether a text is one JSON value.
func isJSON(text []byte) bool {
	s := lineScan{src: text}
	return s.skip(0) && s.end() && invalidUTF8(text) < 0
}
