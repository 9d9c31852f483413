package backfill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sheafml/sheaf/backfill/table"
)

// checkpointVersion is that of the file's form. One of another version does not count.
const checkpointVersion = 1

// Checkpoint says what of a backfill stands in its output. It belongs to one input, mapping, model and output: another
// Key is another backfill.
type Checkpoint struct {
	Version int    `json:"version"`
	Key     string `json:"key"`
	// Run tells this beginning from others of the same: what they asked for has been dropped since, and NATS may still know
	// their jobs' IDs.
	Run string `json:"run"`
	// About says for people and for messages what the key is made of.
	About map[string]string `json:"about"`
	// RowsPerJob is where the input is cut.
	RowsPerJob int `json:"rows_per_job"`
	// Parts is how many parts from the first on are written, Next where the first that is not begins, Beyond are those
	// that are written after it.
	Parts  int64       `json:"parts"`
	Next   table.Place `json:"next"`
	Beyond []Beyond    `json:"beyond,omitempty"`
	// Rows and Failed count the rows that are written: all, and the bad ones.
	Rows   int64 `json:"rows"`
	Failed int64 `json:"failed"`
	// Results and Errors are how far the two files count; Errors is nil as long as there is none.
	Results table.Mark  `json:"results"`
	Errors  *table.Mark `json:"errors,omitempty"`
	// Complete says that the output is whole, and in its place.
	Complete bool `json:"complete"`
}

// Beyond is a part that was written before one that comes before it, and where the row after it begins.
type Beyond struct {
	Part int64       `json:"part"`
	Next table.Place `json:"next"`
}

// LoadCheckpoint reads a checkpoint; nil if there is none.
func LoadCheckpoint(path string) (*Checkpoint, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the caller names the file
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil //nolint:nilnil // none is no error
	case err != nil:
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	var c Checkpoint
	if err := json.Unmarshal(text, &c); err != nil {
		return nil, fmt.Errorf("%s is no checkpoint of a backfill (remove it to begin anew): %w", path, err)
	}
	if c.Version != checkpointVersion || c.RowsPerJob < 1 || c.Parts < 0 || c.Results.Offset < 0 {
		return nil, fmt.Errorf("%s is no checkpoint that this version of sheaf reads; remove it to begin anew", path)
	}
	return &c, nil
}

// Save writes the checkpoint: either the old one or the new one stands there, whatever happens.
func (c *Checkpoint) Save(path string) error {
	c.Version = checkpointVersion
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	if err := replaceFile(path, text); err != nil {
		return fmt.Errorf("write the checkpoint: %w", err)
	}
	return nil
}

// replaceFile writes a file beside the one of that name, and has it take its place.
func replaceFile(path string, text []byte) error {
	// The name is always the same, so that what a kill leaves is written over by the next one.
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644) //nolint:gosec // others may read how far it is
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return MoveFile(next, path)
}

// MoveFile renames a file within its directory, and syncs that.
func MoveFile(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// done tracks which parts are written.
type done struct {
	parts  int64
	next   table.Place
	beyond map[int64]table.Place
}

func newDone(c *Checkpoint) *done {
	d := &done{parts: c.Parts, next: c.Next, beyond: map[int64]table.Place{}}
	for _, b := range c.Beyond {
		d.beyond[b.Part] = b.Next
	}
	return d
}

func (d *done) has(part int64) bool {
	_, beyond := d.beyond[part]
	return beyond || part < d.parts
}

// add notes a part, after which the next row begins at a place.
func (d *done) add(part int64, next table.Place) {
	d.beyond[part] = next
	for {
		next, ok := d.beyond[d.parts]
		if !ok {
			return
		}
		delete(d.beyond, d.parts)
		d.parts++
		d.next = next
	}
}

func (d *done) save(c *Checkpoint) {
	c.Parts, c.Next, c.Beyond = d.parts, d.next, c.Beyond[:0]
	for part, next := range d.beyond {
		c.Beyond = append(c.Beyond, Beyond{part, next})
	}
	slices.SortFunc(c.Beyond, func(a, b Beyond) int { return int(a.Part - b.Part) })
}
