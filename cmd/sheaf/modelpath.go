package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/sheafml/sheaf/model"
)

// scanPath finds the models of a directory, which may be a repository or one model of a repository.
func scanPath(dir string) ([]model.Version, error) {
	if !isOneModel(dir) {
		return model.Scan(dir)
	}
	dir = filepath.Clean(dir)
	if base := filepath.Base(dir); base == "." || base == ".." {
		var err error
		if dir, err = filepath.Abs(dir); err != nil { // the directory's name is the model's
			return nil, err
		}
	}
	all, err := model.Scan(filepath.Dir(dir))
	var versions []model.Version
	for _, v := range all {
		if v.Name == filepath.Base(dir) {
			versions = append(versions, v)
		}
	}
	return versions, faultsUnder(dir, err)
}

// isOneModel reports whether dir has what a model's directory has: settings, or versions.
func isOneModel(dir string) bool {
	if _, err := os.Stat(filepath.Join(dir, "model.yaml")); err == nil {
		return true
	}
	found, err := filepath.Glob(filepath.Join(dir, "[1-9]*", "model.onnx"))
	return err == nil && len(found) > 0
}

// faultsUnder keeps of the joined faults of a repository those that are about one of its directories.
func faultsUnder(dir string, err error) error {
	if err == nil {
		return nil
	}
	many, ok := err.(interface{ Unwrap() []error }) // what is joined here, not somewhere below
	if !ok {
		if text := err.Error(); strings.Contains(text, dir+string(filepath.Separator)) || strings.Contains(text, dir+":") {
			return err
		}
		return nil
	}
	var kept []error
	for _, fault := range many.Unwrap() {
		kept = append(kept, faultsUnder(dir, fault))
	}
	return errors.Join(kept...)
}
