package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// rowsVerb makes a file of digits rows. It starts nothing and measures nothing.
const rowsVerb = "rows"

func serveRows(ctx context.Context, args []string, stderr io.Writer) error {
	lab := defaultLabSettings()
	fs := flag.NewFlagSet("bench "+rowsVerb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	var form rowForm
	fs.StringVar(&lab.root, "root", lab.root, "the repository")
	fs.StringVar(&form.format, "format", formatJSONL, "jsonl, csv or parquet")
	columns := fs.String("columns", "", "list: one column pixels; wide: p00 to p63; empty: list, but for CSV wide")
	n := fs.Int64("n", 1_000_000, "rows")
	seed := fs.Uint64("seed", 1, "of the noise")
	bad := fs.Float64("bad", 0, "share of bad rows; FILE.ledger lists them")
	file := fs.String("o", "", "the `FILE` to write")
	if err := fs.Parse(args); err != nil {
		return err
	}
	form.wide = *columns == "wide" || *columns == "" && form.format == formatCSV
	var errs []error
	errs = append(errs, form.validate())
	if *columns != "" && *columns != "list" && *columns != "wide" {
		errs = append(errs, fmt.Errorf("-columns is %q: expected list or wide", *columns))
	}
	if *file == "" || fs.NArg() > 0 {
		errs = append(errs, errors.New("-o is needed: the file to write; there are no other arguments than flags"))
	}
	if *n < 0 || !(*bad >= 0 && *bad <= 1) {
		errs = append(errs, fmt.Errorf("-n is %d and -bad %v: expected no negative number, and 0 to 1", *n, *bad))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	began := time.Now()
	rows, err := newManyRows(lab.heldOut(), *seed, *bad, form)
	if err != nil {
		return err
	}
	if err := makeRows(ctx, *file, form, rows, *n); err != nil {
		return err
	}
	info, err := os.Stat(*file)
	if err != nil {
		return err
	}
	printf(stderr, "%s: %s rows, %s bytes, in %.1f s\n", *file, thousands(int(*n)), thousands(int(info.Size())), time.Since(began).Seconds())
	return nil
}
