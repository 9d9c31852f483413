package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
	"github.com/sheafml/sheaf/webhook"
)

func newWebhook(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "webhook",
		Short: "Show and rotate webhook secrets, list and redeliver webhooks",
		Long: `Show and rotate the secrets that webhooks are signed with, list the deliveries that were given up, and have one made
once more. These verbs ask NATS.`,
		Example: `  sheaf webhook secret --tenant acme
  sheaf webhook ls
  sheaf webhook redeliver ID`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newWebhookSecret(env), newWebhookList(env), newWebhookRedeliver(env))
	return cmd
}

// webhookCommand makes a verb that works on an open queue.
func webhookCommand(cmd *cobra.Command, run func(ctx context.Context, q *queue.Queue, args []string) error) *cobra.Command {
	cfg := natsFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := connectQueue(cmd.Context(), *cfg)
		if err != nil {
			return err
		}
		defer q.Close() //nolint:errcheck // the process ends
		return queueFault(cmd.Context(), run(cmd.Context(), q, args))
	}
	return cmd
}

func newWebhookSecret(env environment) *cobra.Command {
	var tenant string
	var rotate bool
	cmd := &cobra.Command{
		Use:   "secret",
		Short: "Print the secret that a tenant's webhooks are signed with",
		Long: `Print the secret that a tenant's webhooks are signed with, for its receivers. With --rotate it is a new one; the old
one signs beside it for a day, so that receivers can be told in peace.`,
		Example: `  sheaf webhook secret
  sheaf webhook secret --tenant acme --rotate`,
		Args: exactArgs(),
	}
	cmd.Flags().StringVar(&tenant, "tenant", job.DefaultTenant, "whose")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "make a new one")
	return webhookCommand(cmd, func(ctx context.Context, q *queue.Queue, _ []string) error {
		cfg := webhook.DefaultConfig()
		secrets := webhook.NewSecrets(q.Bucket(webhook.BucketName), cfg.Overlap)
		get := secrets.Secret
		if rotate {
			get = secrets.Rotate
		}
		secret, err := get(ctx, tenant)
		if err != nil {
			return err
		}
		if rotate {
			fmt.Fprintf(env.stderr, "This is the new secret. The old one signs too for another %s.\n", cfg.Overlap)
		}
		_, err = fmt.Fprintln(env.stdout, secret)
		return err
	})
}

// givenUpView is a delivery that was given up, as JSON.
type givenUpView struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	Host     string    `json:"host"`
	Attempts int       `json:"attempts"`
	Since    time.Time `json:"since"`
	GivenUp  time.Time `json:"given_up_at"`
	Reason   string    `json:"reason"`
}

func newWebhookList(env environment) *cobra.Command {
	var tenant, format string
	var limit int
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the webhooks that were given up, oldest first",
		Long: `List the webhooks that were given up, oldest first, with the reason. The last --limit of them are shown; they are kept
for two weeks. sheaf webhook redeliver has one made once more, while the job's result stands.`,
		Example: `  sheaf webhook ls
  sheaf webhook ls --tenant acme -o json`,
		Args: exactArgs(),
	}
	cmd.Flags().StringVar(&tenant, "tenant", "", "of this tenant")
	cmd.Flags().IntVar(&limit, "limit", 50, "show no more than this many")
	outputFlag(cmd, &format)
	made := webhookCommand(cmd, func(ctx context.Context, q *queue.Queue, _ []string) error {
		list, total := []givenUpView{}, 0
		err := q.GivenUpWebhooks(ctx, tenant, func(g *queue.GivenUpWebhook) error {
			total++
			list = append(list, givenUpView{
				ID: g.Ticket.String(), Tenant: g.Tenant, Host: g.Host, Attempts: g.Attempts, Since: g.Since, GivenUp: g.Time.UTC(), Reason: g.Reason,
			})
			if len(list) > limit {
				list = list[1:]
			}
			return nil
		})
		if err != nil {
			return err
		}
		waiting, _, err := q.WebhookBacklog(ctx)
		if err != nil {
			return err
		}
		if format == "json" {
			return printIndented(env.stdout, map[string]any{"waiting": waiting, "given_up": total, "webhooks": list})
		}
		return printGivenUp(env, list, total, waiting)
	})
	run := made.RunE
	made.RunE = func(cmd *cobra.Command, args []string) error {
		err := checkOutput(format)
		if limit < 1 {
			err = errors.Join(err, withCode(exitUsage, fmt.Errorf("--limit %d: expected 1 or more", limit)))
		}
		if err != nil {
			return err
		}
		return run(cmd, args)
	}
	return made
}

func printGivenUp(env environment, list []givenUpView, total int, waiting uint64) error {
	if len(list) > 0 {
		w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "ID\tTENANT\tHOST\tTRIES\tGIVEN UP\tREASON")
		for i := range list {
			g := &list[i]
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", g.ID, g.Tenant, clean(g.Host, maxShown), g.Attempts, ageOf(g.GivenUp), clean(g.Reason, reasonWidth))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(env.stdout, "%d given up, %d shown; %d wait\n", total, len(list), waiting)
	return err
}

func newWebhookRedeliver(env environment) *cobra.Command {
	var tenant string
	cmd := &cobra.Command{
		Use:   "redeliver ID",
		Short: "Have the outcome of a finished job sent to its webhook once more",
		Long: `Have the outcome of a finished job sent to its webhook once more, under the webhook-id that it had. It is sent by
sheaf serve; should the job's result be gone by now, it is dropped with a line in the log. ID is what submit returned, or what
sheaf webhook ls shows.`,
		Example: `  sheaf webhook redeliver 0198f3c2-7b1e-7c33-9d5f-3c6b7a2f8e11.i4821-0`,
		Args:    exactArgs("ID"),
	}
	cmd.Flags().StringVar(&tenant, "tenant", job.DefaultTenant, "whose job it is; only its place in the queue goes by it")
	return webhookCommand(cmd, func(ctx context.Context, q *queue.Queue, args []string) error {
		t, err := job.ParseTicket(args[0])
		if err != nil {
			return withCode(exitUsage, fmt.Errorf("%q is %w", args[0], err))
		}
		w := queue.Webhook{Ticket: t, Tenant: tenant, Since: time.Now(), Hand: true}
		// One that was given up says whose it is, and where it goes.
		err = q.GivenUpWebhooks(ctx, "", func(g *queue.GivenUpWebhook) error {
			if g.Ticket.ID == t.ID {
				w.Ticket, w.Tenant, w.Host, w.Finished = g.Ticket, g.Tenant, g.Host, g.Finished
			}
			return nil
		})
		if err != nil {
			return err
		}
		if err := errors.Join(q.QueueWebhooks(ctx, []queue.Webhook{w})...); err != nil {
			return err
		}
		_, err = fmt.Fprintln(env.stdout, "queued: "+w.Ticket.String())
		return err
	})
}
