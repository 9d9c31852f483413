package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sheafml/sheaf/auth"
	"github.com/sheafml/sheaf/httpapi"
	"github.com/sheafml/sheaf/job"
	"github.com/sheafml/sheaf/queue"
)

func newKey(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Create, list and revoke API keys",
		Long: `Create, list and revoke the keys that callers of the API show. They are in a bucket of NATS, so these verbs ask NATS;
every server that runs with --auth keys hears of a change a moment later.`,
		Example: `  sheaf key create --name "web app" --tenant acme
  sheaf key ls
  sheaf key revoke ID`,
		Args: knownVerb,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newKeyCreate(env), newKeyList(env), newKeyRevoke(env))
	return cmd
}

// keyCommand makes a verb that works on the bucket of keys, and logs what it does.
func keyCommand(env environment, cmd *cobra.Command, run func(ctx context.Context, b *queue.Bucket, log *slog.Logger, args []string) error) *cobra.Command {
	cfg, logCfg := natsFlags(cmd), logFlags(cmd)
	fs := cmd.Flags()
	fs.IntVar(&cfg.Replicas, "replicas", cfg.Replicas, "servers of a NATS cluster that keep the keys, if the bucket is made now: 1, 3 or 5")
	asSettings(fs, "replicas")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		logger, err := newLogger(env.stderr, logCfg)
		if err != nil {
			return err
		}
		q, err := connectQueue(cmd.Context(), *cfg)
		if err != nil {
			return err
		}
		defer q.Close() //nolint:errcheck // the process ends
		b := q.Bucket(bucketKeys)
		if err := b.Ensure(cmd.Context()); err != nil {
			return queueFault(cmd.Context(), err)
		}
		return run(cmd.Context(), b, logger, args)
	}
	return cmd
}

// keyView is what is shown of a key.
type keyView struct {
	Key       string       `json:"key,omitempty"` // only when it is made
	ID        string       `json:"id"`
	Name      string       `json:"name,omitempty"`
	State     string       `json:"state"`
	Tenant    string       `json:"tenant"`
	Scopes    []auth.Scope `json:"scopes"`
	Models    []string     `json:"models,omitempty"`
	Rate      *auth.Rate   `json:"rate,omitempty"`
	Created   time.Time    `json:"created_at"`
	CreatedBy string       `json:"created_by,omitempty"`
	Expires   *time.Time   `json:"expires_at,omitempty"`
	Revoked   *time.Time   `json:"revoked_at,omitempty"`
	RevokedBy string       `json:"revoked_by,omitempty"`
}

func viewKey(k *auth.Key, text string) keyView {
	return keyView{
		Key: text, ID: k.ID, Name: k.Name, State: k.State(time.Now()), Tenant: k.Tenant, Scopes: k.Scopes, Models: k.Models,
		Rate: k.Rate, Created: k.Created, CreatedBy: k.By, Expires: k.Expires, Revoked: k.Revoked, RevokedBy: k.Revoker,
	}
}

func newKeyCreate(env environment) *cobra.Command {
	var (
		k               = auth.Key{}
		scopes          []string
		rate            auth.Rate
		expires, format string
	)
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Create a key, and print it once",
		Long: `Create a key and print it on standard output. It is shown only now: what is kept is a hash of it.

Scopes: submit (submit and cancel jobs), read (see models and the tenant's jobs), admin (operate the queue of all
tenants, see metrics). None implies another.`,
		Example: `  sheaf key create --name "web app" --tenant acme
  sheaf key create --name ops --scopes admin --expires 2160h
  SHEAF_API_KEY=$(sheaf key create --models digits --rate 50 --burst 200)`,
		Args: exactArgs(),
	}
	fs := cmd.Flags()
	fs.StringVar(&k.Name, "name", "", "what it is for, for people")
	fs.StringVar(&k.Tenant, "tenant", job.DefaultTenant, "whose jobs it submits and sees")
	fs.StringSliceVar(&scopes, "scopes", []string{string(auth.Submit), string(auth.Read)}, "`LIST` of submit, read and admin")
	fs.StringSliceVar(&k.Models, "models", nil, "`LIST` of the models that it may use and see; default: all")
	fs.StringVar(&expires, "expires", "", "`TIME` at which it ends, RFC 3339, or how long from now, such as 720h; default: never")
	fs.Float64Var(&rate.PerSecond, "rate", 0, "jobs a second that it may submit, in place of the server's --rate-limit; 0 is no limit")
	fs.IntVar(&rate.Burst, "burst", 0, "jobs that it may submit at once, with --rate; 0 is a second's worth")
	outputFlag(cmd, &format)
	made := keyCommand(env, cmd, func(ctx context.Context, b *queue.Bucket, log *slog.Logger, _ []string) error {
		k.By = whoami()
		text, made, err := auth.Issue(ctx, b, k, time.Now())
		if err != nil {
			return queueFault(ctx, err)
		}
		log.Info("administration", "who", k.By, "act", "create key", "key", made.ID, "name", made.Name, "tenant", made.Tenant,
			"scopes", made.Scopes, "models", made.Models)
		if format == "json" {
			return printIndented(env.stdout, viewKey(made, text))
		}
		fmt.Fprintln(env.stderr, "This is the key. It is shown only now; send it as Authorization: Bearer, or set SHEAF_API_KEY.")
		_, err = fmt.Fprintln(env.stdout, text)
		return err
	})
	// What is wrong with the flags is said before NATS is asked for.
	run := made.RunE
	made.RunE = func(cmd *cobra.Command, args []string) error {
		err := checkOutput(format)
		if err != nil {
			return err
		}
		if k.Scopes, err = auth.ParseScopes(scopes); err != nil {
			return withCode(exitUsage, fmt.Errorf("--scopes: %w", err))
		}
		at, err := httpapi.ParseAhead("--expires", expires, time.Now())
		if err != nil {
			return withCode(exitUsage, err)
		}
		if !at.IsZero() {
			at = at.UTC().Truncate(time.Second)
			k.Expires = &at
		}
		if cmd.Flags().Changed("burst") && !cmd.Flags().Changed("rate") {
			return withCode(exitUsage, errors.New("--burst needs --rate"))
		}
		if cmd.Flags().Changed("rate") {
			k.Rate = &rate
		}
		if err := k.Validate(); err != nil {
			return withCode(exitUsage, err)
		}
		return run(cmd, args)
	}
	return made
}

func newKeyList(env environment) *cobra.Command {
	var format string
	var all bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the keys, without their secrets",
		Example: `  sheaf key ls
  sheaf key ls --all -o json`,
		Args: exactArgs(),
	}
	outputFlag(cmd, &format)
	cmd.Flags().BoolVar(&all, "all", false, "also those that are revoked or expired")
	return keyCommand(env, cmd, func(ctx context.Context, b *queue.Bucket, _ *slog.Logger, _ []string) error {
		if err := checkOutput(format); err != nil {
			return err
		}
		keys, unreadable, err := auth.List(ctx, b)
		if err != nil {
			return queueFault(ctx, err)
		}
		for _, text := range unreadable {
			fmt.Fprintf(env.stderr, "a key cannot be read, and is refused everywhere: %s\n", clean(text, maxShown))
		}
		views := []keyView{}
		for i := range keys {
			if v := viewKey(&keys[i], ""); all || v.State == "active" {
				views = append(views, v)
			}
		}
		if format == "json" {
			return printIndented(env.stdout, map[string]any{"keys": views})
		}
		return printKeys(env, views)
	})
}

func printKeys(env environment, keys []keyView) error {
	if len(keys) == 0 {
		fmt.Fprintln(env.stderr, "there are no keys; sheaf key create makes one")
		return nil
	}
	w := tabwriter.NewWriter(env.stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tTENANT\tSCOPES\tMODELS\tRATE\tEXPIRES\tSTATE")
	for i := range keys {
		k := &keys[i]
		scopes := make([]string, len(k.Scopes))
		for n, s := range k.Scopes {
			scopes[n] = string(s)
		}
		expires, rate := "never", "default"
		if k.Expires != nil {
			expires = k.Expires.Format(time.RFC3339)
		}
		if k.Rate != nil {
			rate = fmt.Sprintf("%v/s", k.Rate.PerSecond)
			if k.Rate.PerSecond == 0 {
				rate = "none"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.ID, clean(k.Name, maxShown), clean(k.Tenant, maxShown), clean(strings.Join(scopes, ","), maxShown),
			cmp.Or(clean(strings.Join(k.Models, ","), maxShown), "all"), rate, expires, k.State)
	}
	return w.Flush()
}

func newKeyRevoke(env environment) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke a key: it is refused everywhere a moment later",
		Long: `Revoke a key for good. Every server that is connected to NATS refuses it a moment later; one that is not, when it is
connected again. ID is what sheaf key ls shows; the whole key is taken too.`,
		Example: `  sheaf key revoke 4qk2mvx7hyab`,
		Args:    exactArgs("ID"),
	}
	return keyCommand(env, cmd, func(ctx context.Context, b *queue.Bucket, log *slog.Logger, args []string) error {
		by := whoami()
		k, err := auth.Revoke(ctx, b, auth.KeyID(args[0]), by, time.Now())
		if errors.Is(err, auth.ErrNoKey) {
			return fmt.Errorf("%w (sheaf key ls --all lists them)", err)
		}
		if err != nil {
			return queueFault(ctx, err)
		}
		log.Info("administration", "who", by, "act", "revoke key", "key", k.ID, "name", k.Name, "tenant", k.Tenant)
		_, err = fmt.Fprintln(env.stdout, "revoked: "+k.ID)
		return err
	})
}

// whoami is who runs this command, for the record.
func whoami() string {
	name, host := "somebody", "somewhere"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil {
		host = h
	}
	return name + "@" + host
}
