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
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("settings file %s: %w", path, err)
	}
	settings := make(map[string]string)
	if len(doc.Content) == 0 {
		return settings, nil
	}
	top := doc.Content[0]
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("settings file %s, line %d: expected one \"setting: value\" a line", path, top.Line)
	}
	var errs []error
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		name := strings.ReplaceAll(key.Value, "_", "-")
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("settings file %s, line %d: %s", path, key.Line, fmt.Sprintf(format, args...)))
		}
		_, twice := settings[name]
		switch {
		case !slices.Contains(known, name):
			bad("unknown setting %q%s", key.Value, suggestion(name, known))
		case twice:
			bad("%s is given twice; %s and %s are the same", key.Value, name, strings.ReplaceAll(name, "-", "_"))
		case value.Kind == yaml.SequenceNode:
			bad("%s is a list: expected a,b in one string", key.Value)
		case value.Kind != yaml.ScalarNode:
			bad("%s takes a single value", key.Value)
		default:
			settings[name] = value.Value
		}
	}
	return settings, errors.Join(errs...)
}
