package table

import "github.com/sheafml/sheaf/job"

// Plan says which columns of a table each input of a model takes.
type Plan struct {
	Inputs []PlanInput // in the order of the model's signature
	// Batchable says that the model takes many rows at once. If not, each group is one row, and its tensors have no dimension
	// for rows.
	Batchable bool
	// ID is the column that is passed through to the output; -1 for none.
	ID int
	// Limits bounds a row.
	Limits job.Limits
}

// PlanInput is one input of a model and where its data comes from.
type PlanInput struct {
	Name     string
	Datatype job.Datatype
	// Shape is that of one row, -1 where it may vary.
	Shape []int64
	// Columns are one column of lists (or of texts or numbers, for a row of one element), or as many as a row has elements.
	Columns []int
	// List says that the one column has the whole row.
	List bool
}

// Want is what the user said of the mapping; the rest is guessed.
type Want struct {
	// Inputs maps an input of the model to columns, as --input x=col1,col2 does; "*" in a name stands for any text.
	Inputs map[string][]string
	// InputColumn is the column of lists for a model with one input.
	InputColumn string
	// ID is the column that is passed through; "" for none.
	ID string
}
