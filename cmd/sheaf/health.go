package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// newHealth is what a container's health check runs: no curl is needed in the image.
func newHealth(env environment) *cobra.Command {
	var target string
	c := &client{http: &http.Client{}}
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Exit 0 when a process says that it is ready",
		Long: `Ask a process whether it is ready, print its answer, and exit 0 if it is; exit 4 if it is not, or does not answer.

Made for the health check of a container, where there is no curl. A worker answers at its --ops-addr.`,
		Example: `  sheaf health
  sheaf health --url http://127.0.0.1:9090/readyz --timeout 1s`,
		Args: exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := url.Parse(target)
			if err != nil || u.Host == "" {
				return withCode(exitUsage, fmt.Errorf("--url %q: expected a URL such as http://127.0.0.1:8080/readyz", target))
			}
			c.server = u.Scheme + "://" + u.Host
			a, err := c.do(cmd.Context(), http.MethodGet, u.RequestURI(), nil, nil, 0)
			if err != nil {
				return err
			}
			fmt.Fprintln(env.stdout, strings.TrimSpace(string(a.body)))
			if a.status != http.StatusOK {
				return withCode(exitUnreachable, errors.New("not ready"))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&target, "url", "http://127.0.0.1:8080/readyz", "`URL` to ask")
	c.tls.flags(cmd)
	cmd.Flags().DurationVar(&c.timeout, "timeout", 3*time.Second, "how long the answer may take")
	return cmd
}
