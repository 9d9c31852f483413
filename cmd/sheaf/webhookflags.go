package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/webhook"
)

// webhookSettings say whether and how webhooks are delivered.
type webhookSettings struct {
	webhook.Config
	on       bool
	networks []string
	caFile   string
	roots    *x509.CertPool
}

// webhookFlags adds the settings of webhooks.
func webhookFlags(cmd *cobra.Command, q *queue.Config) *webhookSettings {
	s := &webhookSettings{Config: webhook.DefaultConfig()}
	fs := cmd.Flags()
	fs.BoolVar(&s.on, "webhooks", true, "take jobs with a webhook, and deliver webhooks")
	fs.StringSliceVar(&s.networks, "webhook-allow-networks", nil, "`LIST` of networks that webhooks may go to although they are not public, such as 10.1.0.0/16")
	fs.BoolVar(&s.AllowHTTP, "webhook-allow-http", false, "let webhooks go to http:// too")
	fs.StringVar(&s.caFile, "webhook-ca", "", "PEM `FILE` of authorities to trust for receivers of webhooks, beside the system's")
	fs.DurationSliceVar(&s.Schedule, "webhook-schedule", s.Schedule, "`LIST` of the pauses after failed attempts; then the webhook is given up")
	fs.DurationVar(&s.Timeout, "webhook-timeout", s.Timeout, "how long a receiver may take to answer")
	fs.DurationVar(&s.RetryAfterMax, "webhook-retry-after-max", s.RetryAfterMax, "how long a receiver may ask to be left alone")
	fs.IntVar(&s.Concurrency, "webhook-concurrency", s.Concurrency, "webhooks that this process sends at the same time")
	fs.IntVar(&s.PerTenant, "webhook-per-tenant", s.PerTenant, "of them, those of one tenant")
	fs.IntVar(&s.PerHost, "webhook-per-host", s.PerHost, "of them, those to one host")
	fs.IntVar(&s.MaxPayload, "webhook-max-payload", s.MaxPayload, "bytes that a webhook may have; a larger one is sent without the job's outputs")
	fs.DurationVar(&q.Webhook.AckWait, "webhook-ack-wait", q.Webhook.AckWait, "a dead process's webhooks are sent by another after this")
	asSettings(fs, "webhooks", "webhook-allow-networks", "webhook-allow-http", "webhook-ca", "webhook-schedule", "webhook-timeout",
		"webhook-retry-after-max", "webhook-concurrency", "webhook-per-tenant", "webhook-per-host", "webhook-max-payload", "webhook-ack-wait")
	return s
}

// forDevelopment lets webhooks go to programs on the same machine, unless told otherwise.
func (s *webhookSettings) forDevelopment(cmd *cobra.Command) {
	s.AllowHTTP, s.networks = true, []string{"127.0.0.0/8", "::1/128"}
	fs := cmd.Flags()
	fs.Lookup("webhook-allow-http").DefValue = "true"
	fs.Lookup("webhook-allow-networks").DefValue = "127.0.0.0/8,::1/128"
}

// complete reads what the settings name, and names every fault.
func (s *webhookSettings) complete(q *queue.Config) error {
	if !s.on {
		return nil
	}
	var faults []error
	s.AllowNetworks = nil
	for _, text := range s.networks {
		n, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			faults = append(faults, fmt.Errorf("--webhook-allow-networks %q: expected an address and its bits, such as 10.1.0.0/16", text))
			continue
		}
		s.AllowNetworks = append(s.AllowNetworks, n)
	}
	faults = append(faults, webhookByFlag(s.Validate()), s.readRoots())
	if q.Webhook.AckWait < s.Timeout+ackWaitSpare(s) {
		faults = append(faults, fmt.Errorf("--webhook-ack-wait is %s: expected at least %s more than --webhook-timeout (%s), or attempts in hand are made by others too",
			q.Webhook.AckWait, ackWaitSpare(s), s.Timeout))
	}
	return withCode(exitUsage, errors.Join(faults...))
}

// ackWaitSpare is the time for everything in an attempt that is not the receiver's.
func ackWaitSpare(s *webhookSettings) time.Duration { return s.Timeout / 2 }

func (s *webhookSettings) readRoots() error {
	if s.caFile == "" {
		return nil
	}
	text, err := os.ReadFile(s.caFile)
	if err != nil {
		return fmt.Errorf("--webhook-ca: %w", err)
	}
	if s.roots, err = x509.SystemCertPool(); err != nil {
		s.roots = x509.NewCertPool() // a machine without authorities of its own
	}
	if !s.roots.AppendCertsFromPEM(text) {
		return fmt.Errorf("--webhook-ca %s: there is no certificate in it", s.caFile)
	}
	return nil
}

// webhookByFlag is byFlag for settings of webhooks, some of which are named as others are.
func webhookByFlag(err error) error {
	if err == nil {
		return nil
	}
	names := strings.NewReplacer(
		"Schedule", "--webhook-schedule",
		"RetryAfterMax", "--webhook-retry-after-max",
		"Timeout", "--webhook-timeout",
		"Concurrency", "--webhook-concurrency",
		"PerTenant", "--webhook-per-tenant",
		"PerHost", "--webhook-per-host",
		"MaxPayload", "--webhook-max-payload",
		"AllowNetworks", "--webhook-allow-networks",
	)
	return &namedError{text: names.Replace(err.Error()), err: err}
}

// webhooks is what a process delivers webhooks with.
type webhooks struct {
	*webhook.Policy
	*webhook.Secrets
	sender *webhook.Sender
}

// policy says which URLs may be called; nil if webhooks are off. The settings are complete.
func (s *webhookSettings) policy() *webhook.Policy {
	if !s.on {
		return nil
	}
	return webhook.NewPolicy(&s.Config)
}

// open returns nil if webhooks are off. batches are those whose ends are told.
func (s *webhookSettings) open(on plant, policy *webhook.Policy, batches webhook.Batches) (*webhooks, error) {
	if policy == nil {
		return nil, nil //nolint:nilnil // it says that there are none
	}
	w := &webhooks{Policy: policy, Secrets: webhook.NewSecrets(on.queue.Bucket(webhook.BucketName), s.Overlap)}
	var err error
	w.sender, err = webhook.New(s.Config, webhook.Deps{
		Queue: on.queue, Results: on.results, Batches: batches, Secrets: w.Secrets, Render: httpapi.JobJSON, Roots: s.roots,
		Logger: on.logger, Registerer: on.registry, Reach: on.reach,
	})
	return w, withCode(exitUsage, webhookByFlag(err))
}
