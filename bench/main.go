package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// asynqServerVerb is the hidden first argument that makes this binary the asynq server of a round.
const asynqServerVerb = "asynq-server"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code) //nolint:forbidigo // this is the program
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == asynqServerVerb {
		if err := serveAsynq(ctx, args[1:], stderr); err != nil {
			printf(stderr, "bench asynq-server: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
	if len(args) > 0 && args[0] == syncServerVerb {
		if err := serveSync(ctx, args[1:], stderr); err != nil {
			printf(stderr, "bench sync-server: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
	if len(args) > 0 && args[0] == bareLoopVerb {
		if err := serveBareLoop(ctx, args[1:], stderr); err != nil {
			printf(stderr, "bench bare-loop: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
	if len(args) > 0 && args[0] == feederVerb {
		if err := serveFeeder(ctx, args[1:], stderr); err != nil {
			printf(stderr, "bench feeder: %v\n", err)
			return exitFailed
		}
		return exitOK
	}
	if len(args) > 0 && args[0] == rowsVerb {
		err := serveRows(ctx, args[1:], stderr)
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return exitOK
		default:
			printf(stderr, "bench rows: %v\n", err)
			return exitFailed
		}
	}
	if len(args) > 0 {
		if code, ok := runVerb(ctx, args, stdout, stderr); ok {
			return code
		}
	}
	cfg, err := parseConfig(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		printf(stderr, "bench: %v\n", err)
		return exitUsage
	}
	err = measure(ctx, cfg, stdout, stderr)
	switch {
	case ctx.Err() != nil:
		printf(stderr, "bench: interrupted; every process that it started has been ended\n")
		return exitInterrupted
	case err != nil:
		printf(stderr, "bench: %v\n", err)
		return exitFailed
	}
	return exitOK
}
