package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
)

func newModel(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "model",
		Short: "List, inspect and forget models",
		Long: `List the models that are announced, look at one or at a directory of them, and forget one that no worker serves
any more. The API knows a model from the announcement of its workers, which outlives them.`,
		Example: `  sheaf model ls
  sheaf model inspect ./models
  sheaf model forget digits/1`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModelList(env), newModelInspect(env), newModelForget(env))
	return cmd
}

func newModelList(env environment) *cobra.Command {
	var format, dir, library string
	var c *client
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the models that are announced, or those of a directory",
		Long: `List the models that workers have announced, as the HTTP API knows them; with --models those of a directory,
loaded here without any server.`,
		Example: `  sheaf model ls
  sheaf model ls --models ./models -o json`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			var infos []modelView
			var fault error
			if dir != "" {
				infos, fault = inspectPath(cmd.Context(), library, dir)
			} else {
				var list struct {
					Models []modelView `json:"models"`
				}
				if err := c.get(cmd.Context(), "/v1/models", &list); err != nil {
					return err
				}
				infos = list.Models
			}
			return printFound(env, infos, fault, format)
		},
	}
	c = clientFlags(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().StringVar(&dir, "models", "", "list this `DIR` instead of asking the server")
	cmd.Flags().StringVar(&library, "onnxruntime-lib", "", "ONNX Runtime's shared library, for --models")
	asSettings(cmd.Flags(), "onnxruntime-lib")
	return cmd
}

func newModelInspect(env environment) *cobra.Command {
	var format, library string
	var c *client
	cmd := &cobra.Command{
		Use:   "inspect NAME|PATH",
		Short: "Show what a model takes and gives, or why it cannot be served",
		Long: `Show what a model takes and gives.

NAME is a model that the server serves. PATH is an .onnx file, the directory of one model or of many: it is loaded here, without any
server, and what keeps it from being served is said together with what to do about it.`,
		Example: `  sheaf model inspect digits
  sheaf model inspect ./models
  sheaf model inspect ./models/digits`,
		Args: exactArgs("NAME or PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(format); err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); err == nil || strings.HasSuffix(args[0], ".onnx") || strings.ContainsRune(args[0], filepath.Separator) {
				infos, fault := inspectPath(cmd.Context(), library, args[0])
				return printFound(env, infos, fault, format)
			}
			var info modelView
			if err := c.get(cmd.Context(), "/v1/models/"+url.PathEscape(args[0]), &info); err != nil {
				return err
			}
			return printModels(env, []modelView{info}, format)
		},
	}
	c = clientFlags(cmd)
	outputFlag(cmd, &format)
	cmd.Flags().StringVar(&library, "onnxruntime-lib", "", "ONNX Runtime's shared library, for PATH")
	asSettings(cmd.Flags(), "onnxruntime-lib")
	return cmd
}

// get reads a JSON answer.
func (c *client) get(ctx context.Context, path string, into any) error {
	a, err := c.do(ctx, http.MethodGet, path, nil, nil, 0)
	if err != nil {
		return err
	}
	if a.status != http.StatusOK {
		return a.problem()
	}
	if err := json.Unmarshal(a.body, into); err != nil {
		return fmt.Errorf("the server's answer is not understood: %w", err)
	}
	return nil
}

// modelView is what is shown of a model, as GET /v1/models gives it.
type modelView struct {
	Name        string `json:"name"`
	Version     string `json:"version"`
	Description string `json:"description,omitempty"`
	Platform    string `json:"platform"`
	model.Signature
	MaxRows int               `json:"max_rows"`
	Digest  string            `json:"digest,omitempty"`
	Meta    map[string]string `json:"metadata,omitempty"`
}

// inspectPath loads the models of a file or directory. Those that can be served are returned even if others cannot.
func inspectPath(ctx context.Context, library, path string) ([]modelView, error) {
	stat, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withCode(exitUsage, fmt.Errorf("there is no file or directory %s", path))
	} else if err != nil {
		return nil, withCode(exitUsage, err)
	}
	var versions []model.Version
	var faults []error
	if stat.IsDir() {
		versions, err = scanPath(path)
		faults = append(faults, err)
		if len(versions) == 0 && err == nil {
			faults = append(faults, fmt.Errorf("no model in %s: expected NAME/VERSION/model.onnx or NAME.onnx", path))
		}
	} else {
		name := strings.TrimSuffix(filepath.Base(path), ".onnx")
		versions = []model.Version{{Name: name, Version: "1", Path: path, Manifest: model.DefaultManifest()}}
	}
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		return nil, withCode(exitUnreachable, errors.Join(append(faults, err)...))
	}
	defer rt.Close() //nolint:errcheck // the process ends
	var infos []modelView
	for _, v := range versions {
		m, err := rt.Load(ctx, v)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		i := m.Info()
		infos = append(infos, modelView{
			Name: i.Name, Version: i.Version, Description: i.Description, Platform: i.Platform,
			Signature: i.Signature, MaxRows: i.MaxRows, Digest: i.Digest, Meta: i.Metadata,
		})
		_ = m.Close()
	}
	return infos, errors.Join(faults...)
}

// printFound prints the models that a directory has, though not all of it may be in order.
func printFound(env environment, infos []modelView, fault error, format string) error {
	if fault != nil && len(infos) == 0 && format == "text" {
		return fault // "no models" would be beside the point
	}
	return errors.Join(printModels(env, infos, format), fault)
}

func printModels(env environment, infos []modelView, format string) error {
	if format == "json" {
		enc := json.NewEncoder(env.stdout)
		enc.SetIndent("", "  ")
		if infos == nil {
			infos = []modelView{}
		}
		return enc.Encode(map[string]any{"models": infos})
	}
	if len(infos) == 0 {
		fmt.Fprintln(env.stderr, "no models")
		return nil
	}
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tBATCHING\tSIGNATURE")
	for i := range infos {
		batching := "no"
		if infos[i].Batchable {
			batching = fmt.Sprintf("%d rows", infos[i].MaxRows)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", infos[i].Name+"/"+infos[i].Version, batching, signatureLine(&infos[i].Signature))
	}
	return w.Flush()
}

// signatureLine is a signature in one line: x FP32 [-1,64] → probabilities FP32 [-1,10].
func signatureLine(s *model.Signature) string {
	list := func(specs []model.TensorSpec) string {
		parts := make([]string, len(specs))
		for i, spec := range specs {
			parts[i] = fmt.Sprintf("%s %s %s", spec.Name, spec.Datatype, model.FormatShape(spec.Shape))
		}
		return strings.Join(parts, ", ")
	}
	return list(s.Inputs) + " → " + list(s.Outputs)
}
