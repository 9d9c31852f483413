package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/model"
	"github.com/sheafml/sheaf/model/onnx"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/resultstore"
)

// finding is one line of the doctor's report.
type finding struct {
	what   string
	detail string // what was found
	warn   bool   // detail is worth a thought
	err    error  // what is wrong, and what to do
	code   int    // exit code if something is wrong
}

func newDoctor(env environment) *cobra.Command {
	var modelsDir, library, server string
	var files clientTLS
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look at everything that Sheaf needs, and say what is wrong and what to do",
		Long: `Look at ONNX Runtime, the models, NATS, Redis and the HTTP API, and say what is wrong and what to do about it.
What sheaf dev brings along (NATS, Redis) need not be there for sheaf dev.`,
		Args: exactArgs(),
	}
	fs := cmd.Flags()
	fs.StringVar(&modelsDir, "models", "", "`DIR` of models to look at")
	fs.StringVar(&library, "onnxruntime-lib", "", "ONNX Runtime's shared library; default: lib/ beside the program, then the system's")
	fs.StringVar(&server, "server", "", "base `URL` of an HTTP API to look at")
	asSettings(fs, "models", "onnxruntime-lib", "server")
	files.flags(cmd)
	natsCfg, redisCfg := natsFlags(cmd), redisFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx := cmd.Context()
		code := exitOK
		report := func(f finding) {
			mark := "ok  "
			if f.warn {
				mark = "WARN"
			}
			if f.err != nil {
				mark, f.detail = "FAIL", f.err.Error()
				code = max(code, f.code)
			}
			fmt.Fprintf(env.stdout, "%s  %-14s %s\n", mark, f.what, f.detail)
		}
		v := readVersion()
		report(finding{what: "sheaf", detail: fmt.Sprintf("%s, %s, %s", v.Version, v.Go, v.Platform)})
		checkModels(ctx, library, modelsDir, report)
		report(checkNATS(ctx, *natsCfg))
		report(checkRedis(ctx, *redisCfg))
		if server != "" {
			report(checkServer(ctx, server, files))
		}
		if code != exitOK {
			fmt.Fprintln(env.stderr, "sheaf: something is wrong: see the lines marked FAIL")
			return &exitError{code: code}
		}
		return nil
	}
	return cmd
}

// checkModels looks at ONNX Runtime, and at each model of dir if one is named.
func checkModels(ctx context.Context, library, dir string, report func(finding)) {
	rt, err := onnx.Open(onnx.Config{Library: library})
	if err != nil {
		report(finding{what: "ONNX Runtime", err: err, code: exitUnreachable})
		return
	}
	defer rt.Close() //nolint:errcheck // the process ends
	report(finding{what: "ONNX Runtime", detail: rt.Version() + " at " + rt.Library()})
	if dir == "" {
		return
	}
	if _, err := os.ReadDir(dir); err != nil {
		report(finding{what: "models", err: err, code: exitUsage})
		return
	}
	versions, err := model.Scan(dir)
	if err != nil {
		report(finding{what: "models", err: err, code: exitUsage})
	}
	for _, v := range model.Latest(versions) {
		m, err := rt.Load(ctx, v)
		if err != nil {
			report(finding{what: "model", err: err, code: exitUsage})
			continue
		}
		info := m.Info()
		report(finding{what: "model", detail: info.Key() + ": " + signatureLine(&info.Signature)})
		_ = m.Close()
	}
}

func checkNATS(ctx context.Context, cfg queue.Config) finding {
	f := finding{what: "NATS", code: exitUnreachable}
	q, err := queue.Connect(ctx, cfg)
	if err == nil {
		defer q.Close() //nolint:errcheck // only asked
		f.detail, err = q.Describe(ctx)
	}
	f.err = notForDev(err)
	return f
}

func checkRedis(ctx context.Context, cfg resultstore.Config) finding {
	f := finding{what: "Redis", code: exitUnreachable}
	store, err := resultstore.OpenRedis(ctx, cfg)
	if err == nil {
		defer store.Close() //nolint:errcheck // only asked
		f.detail, err = store.Describe(ctx)
		f.warn = strings.Contains(f.detail, "append-only file off")
	}
	f.err = notForDev(err)
	return f
}

// notForDev adds to what is wrong with a server that sheaf dev does without it.
func notForDev(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w (not needed for sheaf dev)", err)
}

func checkServer(ctx context.Context, server string, files clientTLS) finding {
	f := finding{what: "HTTP API", code: exitUnreachable}
	c := &client{server: server, timeout: 5 * time.Second, http: &http.Client{}, tls: files}
	a, err := c.do(ctx, http.MethodGet, "/readyz", nil, nil, 0)
	switch {
	case err != nil:
		f.err = err
	case a.status != http.StatusOK:
		f.err = fmt.Errorf("%s is not ready: %s", server, a.body)
	default:
		f.detail = server + " is ready"
	}
	return f
}
