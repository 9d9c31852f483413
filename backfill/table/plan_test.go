package table_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sheafml/sheaf/backfill/table"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/model"
)

func cols(list ...string) []table.Column {
	kinds := map[byte]table.Kind{'i': table.Integer, 'n': table.Number, 'b': table.Bool, 't': table.Text, 'l': table.List, 'o': table.Object, 'u': table.Unknown}
	var columns []table.Column
	for _, c := range list {
		name, kind, _ := strings.Cut(c, ":")
		length := -1
		if len(kind) > 1 {
			if _, err := fmt.Sscan(kind[1:], &length); err != nil {
				panic(err)
			}
		}
		columns = append(columns, table.Column{Name: name, Kind: kinds[kind[0]], Length: length})
	}
	return columns
}

func pixels(n int, more ...string) []table.Column {
	var list []string
	for k := range n {
		list = append(list, fmt.Sprintf("pixel_%d:n", k))
	}
	return append(cols(more...), cols(list...)...)
}

func TestPlan(t *testing.T) {
	fp := func(shape ...int64) *model.Info { return takes(x(job.FP32, shape...)) }
	explicit := func(patterns ...string) table.Want { return table.Want{Inputs: map[string][]string{"x": patterns}} }
	span := func(from, to int) (list []int) {
		for c := from; c < to; c++ {
			list = append(list, c)
		}
		return list
	}
	two := takes(x(job.FP32, 2), model.TensorSpec{Name: "y", Datatype: job.Bytes, Shape: []int64{1}})
	for _, tt := range []struct {
		name    string
		columns []table.Column
		info    *model.Info
		want    table.Want
		inputs  [][]int
		list    bool
		err     []string // what the error must say
	}{
		{"own name", cols("a:l3", "x:l3"), fp(3), table.Want{}, [][]int{{1}}, true, nil},
		{"own name that does not fit", cols("x:n", "y:n", "z:n"), fp(3), table.Want{}, [][]int{{0, 1, 2}}, false, nil},
		{"usual name", cols("probabilities:l4", "features:l64", "other:l64"), fp(64), table.Want{}, [][]int{{1}}, true, nil},
		{"two usual names", cols("input:l4", "features:l4"), fp(4), table.Want{}, nil, false, []string{"input", "features", "--input x=input"}},
		{"the only list", cols("id:i", "pixels:l64", "label:i", "p:l10"), fp(64), table.Want{}, [][]int{{1}}, true, nil},
		{"nested list", cols("pixels:l64"), fp(8, 8), table.Want{}, [][]int{{0}}, true, nil},
		{"lists of any length", cols("a:l"), fp(-1), table.Want{}, [][]int{{0}}, true, nil},
		{"ambiguous lists", cols("a:l4", "b:l4"), fp(4), table.Want{}, nil, false, []string{"a, b", "--input x=a"}},
		{"numbers", pixels(64), fp(64), table.Want{}, [][]int{span(0, 64)}, false, nil},
		{"numbers, texts left out", pixels(64, "name:t"), fp(64), table.Want{}, [][]int{span(1, 65)}, false, nil},
		{"numbers, ID left out", pixels(64, "id:i"), fp(64), table.Want{ID: "id"}, [][]int{span(1, 65)}, false, nil},
		{"numbers, ours left out", pixels(64, "sheaf_line:i"), fp(64), table.Want{}, [][]int{span(1, 65)}, false, nil},
		{"too many numbers", pixels(64, "id:i"), fp(64), table.Want{}, nil, false, []string{"64 FP32", "65 columns", "--input 'x=pixel_*'", "id (integer)"}},
		{"one number", cols("v:n", "s:t"), fp(1), table.Want{}, [][]int{{0}}, false, nil},
		{"one of two numbers", cols("v:n", "w:n"), fp(1), table.Want{}, nil, false, []string{"v, w"}},
		{"text", cols("id:i", "review:t"), takes(x(job.Bytes, 1)), table.Want{}, [][]int{{1}}, false, nil},
		{"integers only", cols("a:i", "b:n"), takes(x(job.Int64, 1)), table.Want{}, [][]int{{0}}, false, nil},
		{"objects", cols("a:o"), fp(2), table.Want{}, nil, false, []string{"a (object)", "2 FP32", "--input x=COLUMN"}},
		{"wildcard", pixels(64, "id:i"), fp(64), explicit("pixel_*"), [][]int{span(1, 65)}, false, nil},
		{"wildcards", cols("a_2:n", "b:n", "a_1:n", "a_3_z:n"), fp(3), explicit("b", "a_*"), nil, false, []string{"3 FP32", "4 columns", "a_3_z"}},
		{"order as named", cols("a:n", "b:n", "c:n"), fp(3), explicit("c", "a*", "b"), [][]int{{2, 0, 1}}, false, nil},
		{"named twice", cols("a:n", "b:n"), fp(3), explicit("a", "b", "*"), nil, false, []string{`"a" is named twice`}},
		{"list named", cols("a:l3", "b:l3"), fp(3), explicit("b"), [][]int{{1}}, true, nil},
		{"lists named", cols("a:l3", "b:l3"), fp(6), explicit("a", "b"), nil, false, []string{"column \"a\" is a list"}},
		{"one number for many", cols("a:n"), fp(3), explicit("a"), nil, false, []string{"3 FP32", `"a"`}},
		{"no such column", cols("a:n"), fp(1), explicit("b"), nil, false, []string{`"b"`, "a (number)"}},
		{"no such input", cols("a:n"), fp(1), table.Want{Inputs: map[string][]string{"y": {"a"}}}, nil, false, []string{`"y"`, `"x"`}},
		{"no such ID", cols("a:n"), fp(1), table.Want{ID: "k"}, nil, false, []string{`"k"`, "a (number)"}},
		{"input column", cols("a:l3", "b:l3"), fp(3), table.Want{InputColumn: "b"}, [][]int{{1}}, true, nil},
		{"input column for two inputs", cols("a:l3"), two, table.Want{InputColumn: "a"}, nil, false, []string{`"x", "y"`}},
		{"two inputs", cols("y:t", "x:l2"), two, table.Want{}, [][]int{{1}, {0}}, true, nil},
		{"an input without column", cols("y:t", "z:l2"), two, table.Want{}, nil, false, []string{`input "x"`, "z (list of 2)", "--input x="}},
		{"empty table", nil, fp(3), table.Want{ID: "id"}, [][]int{nil}, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := table.NewPlan(tt.columns, tt.info, tt.want)
			if (err != nil) != (tt.err != nil) {
				t.Fatalf("got the error %v", err)
			}
			for _, part := range tt.err {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
			if err != nil {
				return
			}
			for i, want := range tt.inputs {
				if !reflect.DeepEqual(p.Inputs[i].Columns, want) {
					t.Errorf("input %d takes %v, want %v", i, p.Inputs[i].Columns, want)
				}
			}
			if p.Inputs[0].List != tt.list {
				t.Errorf("List is %v", p.Inputs[0].List)
			}
		})
	}
}

func TestPlanOfAModelWithoutBatches(t *testing.T) {
	info := &model.Info{Name: "m", Version: "1", Signature: model.Signature{Inputs: []model.TensorSpec{x(job.FP32, 1, 2)}}}
	src := open(t, table.JSONL, "{\"x\":[1,2]}\n{\"x\":[[3,4]]}\n", table.Options{})
	p := plan(t, src, info, table.Want{})
	if p.Batchable {
		t.Error("the plan is batchable")
	}
	d := read(t, src).Decode(p)
	if len(d.Groups) != 2 || !reflect.DeepEqual(d.Groups[1].Inputs[0].Shape, []int64{1, 2}) || len(d.Groups[1].Rows) != 1 {
		t.Errorf("got %+v, want a group of one row for each", d)
	}
}

func TestDescribe(t *testing.T) {
	columns := pixels(64, "id:i", "label:t")
	p, err := table.NewPlan(columns, digits(), table.Want{ID: "id"})
	if err != nil {
		t.Fatal(err)
	}
	want := "input pixels_in FP32 [64]: 64 columns, pixel_0 to pixel_63\npassed through: id\nnot asked: label\n"
	if got := p.Describe(columns); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestFormatOf(t *testing.T) {
	for name, want := range map[string]struct {
		f table.Format
		c table.Compression
	}{
		"rows.jsonl": {table.JSONL, table.Plain}, "a/b.c/ROWS.NDJSON.GZ": {table.JSONL, table.Gzip},
		"s3://b/rows.csv.zst": {table.CSV, table.Zstd}, "rows.tsv.gzip": {table.TSV, table.Gzip}, "rows.pq": {table.Parquet, table.Plain},
	} {
		f, c, err := table.FormatOf(name)
		if err != nil || f != want.f || c != want.c {
			t.Errorf("%s: got %s %s, %v", name, f, c, err)
		}
	}
	for _, name := range []string{"rows", "rows.gz", "rows.txt", "csv", "a.csv/rows", "rows.parquet.gz", ""} {
		if _, _, err := table.FormatOf(name); err == nil {
			t.Errorf("%s is taken for a table", name)
		}
	}
	for _, f := range []table.Format{table.JSONL, table.CSV, table.TSV, table.Parquet} {
		if got, err := table.ParseFormat(f.String()); err != nil || got != f {
			t.Errorf("%s was read as %s, %v", f, got, err)
		}
	}
	for _, c := range []table.Compression{table.Plain, table.Gzip, table.Zstd} {
		if got, err := table.ParseCompression(c.String()); err != nil || got != c {
			t.Errorf("%s was read as %s, %v", c, got, err)
		}
	}
}
