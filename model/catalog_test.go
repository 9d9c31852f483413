package model_test

import (
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sheafml/sheaf/model"
)

func info(name, version string) model.Info {
	return model.Info{Name: name, Version: version, Platform: model.PlatformONNX, Signature: *two(), MaxRows: 64}
}

func TestCatalog(t *testing.T) {
	c := model.NewCatalog()
	for _, i := range []model.Info{info("digits", "2"), info("digits", "10"), info("digits", "9"), info("a.b", "1")} {
		c.Put(i)
	}
	replaced := info("digits", "9")
	replaced.Description = "another"
	c.Put(replaced)

	get := func(name, version string) string {
		i, ok := c.Get(name, version)
		if !ok {
			return "none"
		}
		return i.Key() + " " + i.Description
	}
	tests := []struct{ name, version, want string }{
		{"digits", "", "digits/10 "},
		{"digits", "2", "digits/2 "},
		{"digits", "9", "digits/9 another"},
		{"a.b", "", "a.b/1 "},
		{"digits", "3", "none"},
		{"digits", "latest", "none"},
		{"unknown", "", "none"},
	}
	for _, tt := range tests {
		if got := get(tt.name, tt.version); got != tt.want {
			t.Errorf("Get(%q, %q) = %q, want %q", tt.name, tt.version, got, tt.want)
		}
	}
	list := func() string {
		var keys []string
		for _, i := range c.List() {
			keys = append(keys, i.Key())
		}
		return strings.Join(keys, " ")
	}
	if got := list(); got != "a.b/1 digits/10 digits/9 digits/2" {
		t.Errorf("List is %s", got)
	}
	if diff := cmp.Diff([]string{"10", "9", "2"}, c.Versions("digits")); diff != "" {
		t.Error(diff)
	}

	for _, key := range []string{"digits/10", "a.b/1", "digits/77", "unknown/1", "nonsense"} {
		c.Delete(key)
	}
	if got := list(); got != "digits/9 digits/2" {
		t.Errorf("List is %s after Delete", got)
	}
	if got := get("digits", ""); got != "digits/9 another" {
		t.Errorf("the highest version is %q after Delete", got)
	}
}

func TestCatalogIsSafeForConcurrentUse(t *testing.T) {
	c := model.NewCatalog()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				version := strconv.Itoa(1 + (g+i)%7)
				c.Put(info("digits", version))
				if got, ok := c.Get("digits", ""); ok && got.Name != "digits" {
					t.Errorf("got %+v", got)
				}
				c.List()
				c.Delete("digits/" + version)
			}
		})
	}
	wg.Wait()
	if left := c.List(); len(left) != 0 {
		t.Errorf("%d models are left", len(left))
	}
}

func TestInfoKey(t *testing.T) {
	for _, name := range []string{"digits", "a.b..c.", "A_b-c.9"} {
		i := info(name, "12")
		key := i.Key()
		gotName, gotVersion, err := model.ParseKey(key)
		if err != nil || gotName != name || gotVersion != "12" {
			t.Errorf("ParseKey(%q) = %q, %q, %v", key, gotName, gotVersion, err)
		}
	}
	for _, key := range []string{"", "digits", "digits/", "/1", "digits/x", "digits/0", "digits/01", "a b/1", "digits/1/2"} {
		if name, version, err := model.ParseKey(key); err == nil {
			t.Errorf("ParseKey(%q) = %q, %q", key, name, version)
		}
	}
}

func TestInfoAsJSON(t *testing.T) {
	want := info("digits", "3")
	want.Description, want.Digest, want.Prediction = "digits", "00ff", "probabilities"
	want.ResultTTL, want.Deadline, want.Metadata = time.Hour, time.Minute, map[string]string{"team": "vision"}
	text, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := model.ParseInfo(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got.PredictionIndex() != 1 {
		t.Errorf("the prediction is output %d", got.PredictionIndex())
	}
	newer := strings.Replace(string(text), `{"name"`, `{"of_tomorrow":1,"name"`, 1)
	if _, err := model.ParseInfo([]byte(newer)); err != nil {
		t.Errorf("a field of a newer worker: %v", err)
	}
}

func TestParseInfoRefuses(t *testing.T) {
	change := func(f func(*model.Info)) model.Info {
		i := info("digits", "1")
		f(&i)
		return i
	}
	tests := []struct {
		name string
		info model.Info
		want string
	}{
		{"name", change(func(i *model.Info) { i.Name = "no name" }), "the name must be"},
		{"version", change(func(i *model.Info) { i.Version = "one" }), `version is "one"`},
		{"rows", change(func(i *model.Info) { i.MaxRows = 0 }), "max_rows is 0"},
		{"deadline", change(func(i *model.Info) { i.Deadline = -1 }), "must not be negative"},
		{"prediction", change(func(i *model.Info) { i.Prediction = "score" }), `expected one of "label", "probabilities"`},
		{"no inputs", change(func(i *model.Info) { i.Signature.Inputs = nil }), "at least one input"},
		{"a name twice", change(func(i *model.Info) { i.Signature.Inputs[1].Name = "x" }), `"x" is empty or used twice`},
		{"a dimension", change(func(i *model.Info) { i.Signature.Inputs[0].Shape[1] = -2 }), "below -1"},
		{"the batch axis", change(func(i *model.Info) { i.Signature.Outputs[0].Shape = nil }), "must be -1, the shape is []"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.info.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Validate: %v, want %q", err, tt.want)
			}
			if _, err := tt.info.Encode(); err == nil {
				t.Error("it was encoded")
			}
		})
	}
	for _, text := range []string{"", "[]", "{", `{"signature":{"inputs":[{"datatype":"FP1"}]}}`} {
		if _, err := model.ParseInfo([]byte(text)); err == nil {
			t.Errorf("%q is an announcement", text)
		}
	}
	var all model.Info
	if err := all.Validate(); err == nil || strings.Count(err.Error(), "\n") < 3 {
		t.Errorf("an empty announcement has not every fault named: %v", err)
	}
}
