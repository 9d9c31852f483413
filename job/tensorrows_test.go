package job_test

import (
	"testing"

	"github.com/sheafml/sheaf/job"
)

func TestRowsOfATensor(t *testing.T) {
	text := job.AppendBytesElement(job.AppendBytesElement(job.AppendBytesElement(job.AppendBytesElement(nil, []byte("a")), []byte("")), []byte("bcd")), []byte("e"))
	for _, c := range []struct {
		t     job.Tensor
		at, n int
		want  string
	}{
		{job.Tensor{Name: "x", Datatype: job.Int8, Shape: []int64{3, 2}, Data: []byte{1, 2, 3, 4, 5, 6}}, 1, 2, "[[3,4],[5,6]]"},
		{job.Tensor{Name: "x", Datatype: job.Int16, Shape: []int64{2}, Data: []byte{1, 0, 2, 0}}, 1, 1, "[2]"},
		{job.Tensor{Name: "x", Datatype: job.Int8, Shape: []int64{2}, Data: []byte{1, 2}}, 2, 0, "[]"},
		{job.Tensor{Name: "x", Datatype: job.Bytes, Shape: []int64{2, 2}, Data: text}, 1, 1, `[["bcd","e"]]`},
		{job.Tensor{Name: "x", Datatype: job.Bytes, Shape: []int64{4}, Data: text}, 1, 2, `["","bcd"]`},
	} {
		rows, err := c.t.RowsAt(c.at, c.n)
		if err != nil {
			t.Errorf("%v from %d: %v", c.t.Shape, c.at, err)
			continue
		}
		if got := string(job.AppendNestedJSON(nil, &rows)); got != c.want {
			t.Errorf("%v from %d: %s, expected %s", c.t.Shape, c.at, got, c.want)
		}
	}
	x := job.Tensor{Name: "x", Datatype: job.Int8, Shape: []int64{2}, Data: []byte{1, 2}}
	for _, c := range [][2]int{{1, 2}, {-1, 1}, {0, -1}, {3, 0}} {
		if _, err := x.RowsAt(c[0], c[1]); err == nil {
			t.Errorf("%d rows from %d of 2 are given", c[1], c[0])
		}
	}
	broken := job.Tensor{Name: "x", Datatype: job.Int8, Shape: []int64{2}, Data: []byte{1}}
	if _, err := broken.RowsAt(0, 1); err == nil {
		t.Error("rows of data that is too short are given")
	}
	scalar := job.Tensor{Name: "x", Datatype: job.Int8, Data: []byte{1}}
	if _, err := scalar.RowsAt(0, 1); err == nil {
		t.Error("rows of a scalar are given")
	}
}
