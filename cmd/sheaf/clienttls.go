package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"
)

// clientTLS are the files with which the verbs reach an API that speaks TLS.
type clientTLS struct{ ca, cert, key string }

func (t *clientTLS) flags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&t.ca, "server-ca", "", "PEM `FILE` of authorities to trust for an https --server, besides the system's")
	fs.StringVar(&t.cert, "client-cert", "", "PEM `FILE` of the certificate to show to it")
	fs.StringVar(&t.key, "client-key", "", "PEM `FILE` of its key")
	asSettings(fs, "server-ca", "client-cert", "client-key")
}

// apply makes the client use the files.
func (t *clientTLS) apply(c *http.Client) error {
	if t.ca == "" && t.cert == "" && t.key == "" || c.Transport != nil {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.ca != "" {
		pem, err := os.ReadFile(t.ca)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--server-ca: %w", err))
		}
		if cfg.RootCAs, err = x509.SystemCertPool(); err != nil {
			cfg.RootCAs = x509.NewCertPool()
		}
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return withCode(exitUsage, fmt.Errorf("--server-ca %s: there is no certificate in it", t.ca))
		}
	}
	if (t.cert == "") != (t.key == "") {
		return withCode(exitUsage, errors.New("--client-cert and --client-key: expected both"))
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("--client-cert, --client-key: %w", err))
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		transport = &http.Transport{}
	}
	transport = transport.Clone()
	transport.TLSClientConfig = cfg
	c.Transport = transport
	return nil
}
