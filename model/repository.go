package model

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sheafml/sheaf/job"
)

// The names of the files of a repository.
const (
	modelFile    = "model.onnx"
	manifestFile = "model.yaml"
)

// Version is one version of one model in a repository.
type Version struct {
	Name     string
	Version  string // a positive integer
	Path     string // of the ONNX file
	Manifest Manifest
}

// String returns "digits/1".
func (v Version) String() string { return v.Name + "/" + v.Version }

// Scan reads a repository. It returns every version that can be tried, sorted by name and then by number, and an error
// that joins one for each entry that is not as expected; a bad entry does not hide the good ones. Hidden files and
// files that are no models (README.md) are left out. Nothing is loaded: an ONNX file may still turn out to be broken.
func Scan(dir string) ([]Version, error) {
	entries, err := readDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("the model repository %s is not there: expected a directory with <name>/<version>/%s", dir, modelFile)
	}
	if err != nil {
		return nil, fmt.Errorf("read the model repository: %w", err)
	}
	var versions []Version
	var errs []error
	for _, e := range entries {
		var found []Version
		var err error
		switch {
		case e.err != nil:
			err = e.err
		case e.dir:
			found, err = scanModel(dir, e.name)
		default:
			found, err = scanFile(dir, e.name, entries)
		}
		versions = append(versions, found...)
		if err != nil {
			errs = append(errs, err)
		}
	}
	slices.SortStableFunc(versions, func(a, b Version) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), compareVersions(a.Version, b.Version))
	})
	return versions, errors.Join(errs...)
}

// Latest keeps the highest version of each model of what Scan returned.
func Latest(versions []Version) []Version {
	var latest []Version
	for i, v := range versions {
		if i+1 == len(versions) || versions[i+1].Name != v.Name {
			latest = append(latest, v)
		}
	}
	return latest
}

// scanFile reads a file at the top of the repository.
func scanFile(dir, file string, entries []entry) ([]Version, error) {
	path := filepath.Join(dir, file)
	name, isModel := strings.CutSuffix(file, ".onnx")
	if !isModel {
		if slices.Contains(foreignFormats, strings.ToLower(filepath.Ext(file))) {
			return nil, fmt.Errorf("%s: Sheaf runs ONNX files: export the model to %s.onnx", path, strings.TrimSuffix(file, filepath.Ext(file)))
		}
		return nil, nil
	}
	if err := checkName(path, name); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(entries, func(e entry) bool { return e.dir && e.name == name }) {
		return nil, fmt.Errorf("%s: the directory %s/ is the same model: move the file to %s/<version>/%s", path, name, name, modelFile)
	}
	return []Version{{Name: name, Version: "1", Path: path, Manifest: DefaultManifest()}}, nil
}

// foreignFormats are the endings of models that somebody forgot to export. Other files are none of Scan's business.
var foreignFormats = []string{".pt", ".pth", ".pkl", ".pickle", ".joblib", ".h5", ".keras", ".tflite", ".safetensors"}

// scanModel reads a model's directory.
func scanModel(dir, name string) ([]Version, error) {
	path := filepath.Join(dir, name)
	if err := checkName(path, name); err != nil {
		return nil, err
	}
	entries, err := readDir(path)
	if err != nil {
		return nil, fmt.Errorf("read a model's directory: %w", err)
	}
	manifest, err := ReadManifest(filepath.Join(path, manifestFile))
	if err != nil {
		return nil, err // without its settings a model would run otherwise than its owner wants
	}
	var versions []Version
	var errs []error
	for _, e := range entries {
		at := filepath.Join(path, e.name)
		switch {
		case e.err != nil:
			errs = append(errs, e.err)
		case e.dir && !validVersion(e.name):
			errs = append(errs, fmt.Errorf("%s: expected a version's directory, named by a positive integer such as 1", at))
		case e.dir:
			v, err := scanVersion(at, name, e.name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			v.Manifest = manifest
			versions = append(versions, v)
		case strings.HasSuffix(e.name, ".onnx"):
			errs = append(errs, fmt.Errorf("%s: expected it in a version's directory: move it to %s", at, filepath.Join(path, "1", modelFile)))
		case e.name == "model.yml":
			errs = append(errs, fmt.Errorf("%s: the settings of a model are read from %s: rename it", at, manifestFile))
		}
	}
	if len(versions) == 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("%s: expected a version such as %s, there is none", path, filepath.Join(name, "1", modelFile)))
	}
	return versions, errors.Join(errs...)
}

// scanVersion reads a version's directory.
func scanVersion(path, name, version string) (Version, error) {
	entries, err := readDir(path)
	if err != nil {
		return Version{}, fmt.Errorf("read a version's directory: %w", err)
	}
	var others []string
	for _, e := range entries {
		if e.name == modelFile && e.err == nil && !e.dir {
			return Version{Name: name, Version: version, Path: filepath.Join(path, modelFile)}, nil
		}
		if len(others) < 4 {
			others = append(others, e.name)
		}
	}
	if len(others) == 0 {
		return Version{}, fmt.Errorf("%s: expected the file %s, the directory is empty", path, modelFile)
	}
	return Version{}, fmt.Errorf("%s: expected the file %s, found %s", path, modelFile, strings.Join(others, ", "))
}

func checkName(path, name string) error {
	if !job.ValidName(name) {
		return fmt.Errorf("%s: a model's name has 1 to 128 letters, digits, '-', '_' and '.', and starts with a letter or a digit: rename it", path)
	}
	return nil
}

// entry is one visible entry of a directory.
type entry struct {
	name string
	dir  bool
	err  error // of following a link, such as one that leads nowhere
}

// readDir lists a directory without its hidden entries, links followed: mounted volumes are full of them.
func readDir(path string) ([]entry, error) {
	found, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	entries := make([]entry, 0, len(found))
	for _, f := range found {
		name := f.Name()
		if strings.HasPrefix(name, ".") || name == "lost+found" {
			continue
		}
		e := entry{name: name}
		if info, err := os.Stat(filepath.Join(path, name)); err != nil {
			e.err = fmt.Errorf("read an entry of the model repository: %w", err)
		} else {
			e.dir = info.IsDir()
		}
		entries = append(entries, e)
	}
	return entries, nil
}
