// Package examples holds what the sheaf binary carries of this folder, so that a first prediction needs no file from
// anywhere: the demonstration model and one request for it. The rest of the folder is read from disk.
package examples

import (
	"embed"
	"io/fs"
)

//go:embed models/digits/1/model.onnx models/digits/model.yaml digit.json
var files embed.FS

// Digits is the name of the demonstration model.
const Digits = "digits"

// DigitLabel is the digit that the picture in digit.json shows.
const DigitLabel = 3

// Models returns a model repository with the one model "digits": digits/1/model.onnx and digits/model.yaml.
func Models() (fs.FS, error) { return fs.Sub(files, "models") }

// Digit returns the body of a request for a prediction: a picture of a handwritten DigitLabel.
func Digit() ([]byte, error) { return files.ReadFile("digit.json") }
