package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// envAnnotation marks a flag as a setting: it may also come from these environment variables or the settings file.
const envAnnotation = "sheaf_env"

// asSettings makes settings of the named flags: each may also come from SHEAF_<NAME>, and from the settings file.
func asSettings(fs *pflag.FlagSet, names ...string) {
	for _, name := range names {
		env := []string{"SHEAF_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))}
		if name == "nats-url" || name == "redis-url" {
			env = append(env, strings.TrimPrefix(env[0], "SHEAF_"))
		}
		f := fs.Lookup(name)
		f.Usage += " (env " + strings.Join(env, " or ") + ")"
		if f.Annotations == nil {
			f.Annotations = map[string][]string{}
		}
		f.Annotations[envAnnotation] = env
	}
}

// applySettings fills the flags that the command line left alone: from the environment, else from the settings file.
func applySettings(cmd *cobra.Command, getenv func(string) string) error {
	path, _ := cmd.Flags().GetString("config")
	if path == "" {
		path = getenv("SHEAF_CONFIG")
	}
	file, err := readSettings(path, settingNames(cmd.Root()))
	if err != nil {
		return err
	}
	var errs []error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		env := f.Annotations[envAnnotation]
		if env == nil || f.Changed {
			return
		}
		source, value := "", ""
		for _, name := range env {
			if v := getenv(name); v != "" {
				source, value = "environment variable "+name, v
				break
			}
		}
		if source == "" {
			v, ok := file[f.Name]
			if !ok {
				return
			}
			source, value = path+": "+f.Name, v
		}
		if err := f.Value.Set(value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", source, err))
		}
	})
	return errors.Join(errs...)
}

// settingNames lists the settings of every command, so that one file can serve all of them.
func settingNames(root *cobra.Command) []string {
	var names []string
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Annotations[envAnnotation] != nil {
				names = append(names, f.Name)
			}
		})
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(root)
	slices.Sort(names)
	return slices.Compact(names)
}

// readSettings reads a flat YAML map. Unknown keys are errors.
func readSettings(path string, known []string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("read the settings file: %w", err)
	}
	var doc map[string]yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("settings file %s: %w", path, err)
	}
	settings := make(map[string]string, len(doc))
	var errs []error
	for key, node := range doc {
		name := strings.ReplaceAll(key, "_", "-")
		switch {
		case !slices.Contains(known, name):
			errs = append(errs, fmt.Errorf("settings file %s, line %d: unknown setting %q; known are: %s",
				path, node.Line, key, strings.Join(known, ", ")))
		case node.Kind != yaml.ScalarNode:
			errs = append(errs, fmt.Errorf("settings file %s, line %d: %s takes a single value", path, node.Line, key))
		default:
			settings[name] = node.Value
		}
	}
	return settings, errors.Join(errs...)
}
