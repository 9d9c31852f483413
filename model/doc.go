// Package model knows what a model is without running it: the repository on disk, the settings beside a model, what a
// model takes and gives, and which models the workers have announced. It has no cgo, so the HTTP shim and producers
// import it without ever seeing ONNX Runtime; package model/onnx runs what this package describes.
//
// A repository is a directory:
//
//	models/
//	  digits/
//	    model.yaml          settings, optional (Manifest)
//	    1/model.onnx        version 1
//	    2/model.onnx        version 2: the highest is served
//	  spam.onnx             a bare file: version 1 of "spam"
//
// Scan reads it. A worker loads each Version, announces the Info of what it loaded, and a Catalog holds what was
// announced. A Signature checks jobs:
//
//	info, ok := catalog.Get("digits", "")
//	rows, err := info.Signature.Check(j, job.DefaultLimits())
package model
