// Package onnx runs models with ONNX Runtime. It is the only package with cgo.
//
//	rt, err := onnx.Open(onnx.DefaultConfig()) // loads the library, once a process
//	m, err := rt.Load(ctx, version)            // reads the file, makes one session
//	in, err := m.NewInstance()                 // one for each goroutine that runs
//	outputs, err := in.Run(ctx, &batch)        // gathers, runs, and gives views of the outputs
//
// All instances of a model share its session and its weights; each has tensors of its own. The memory behind an input
// or an output is allocated once and grows to the largest batch, and the wrappers that ONNX Runtime wants around it are
// kept for each number of rows, so that a small run costs little more than the model itself. Outputs whose shape is
// not known before the run are allocated by ONNX Runtime and copied.
//
// Nothing about a file is believed before it is checked: Load reads the inputs and outputs from the ONNX file itself,
// and refuses what cannot be served (sequences, maps, optionals, datatypes that the Open Inference Protocol lacks) with
// a message that says how to export the model instead. Run checks that each output has as many rows as the batch.
package onnx
