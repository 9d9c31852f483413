package table

import (
	"fmt"
	"strings"
)

// String returns the name that ParseFormat reads.
func (f Format) String() string {
	switch f {
	case JSONL:
		return "jsonl"
	case CSV:
		return "csv"
	case TSV:
		return "tsv"
	case Parquet:
		return "parquet"
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// ParseFormat reads the name of a format.
func ParseFormat(s string) (Format, error) {
	switch strings.ToLower(s) {
	case "jsonl", "ndjson":
		return JSONL, nil
	case "csv":
		return CSV, nil
	case "tsv":
		return TSV, nil
	case "parquet", "pq":
		return Parquet, nil
	}
	return 0, fmt.Errorf("%q is no format: expected jsonl, csv, tsv or parquet", s)
}

// String returns the name that ParseCompression reads.
func (c Compression) String() string {
	switch c {
	case Plain:
		return "none"
	case Gzip:
		return "gzip"
	case Zstd:
		return "zstd"
	}
	return fmt.Sprintf("Compression(%d)", uint8(c))
}

// ParseCompression reads the name of a compression; "" is none.
func ParseCompression(s string) (Compression, error) {
	switch strings.ToLower(s) {
	case "", "none":
		return Plain, nil
	case "gzip", "gz":
		return Gzip, nil
	case "zstd", "zst":
		return Zstd, nil
	}
	return 0, fmt.Errorf("%q is no compression: expected none, gzip or zstd", s)
}

// FormatOf tells by the name of a file what it is: rows.jsonl, rows.csv.gz, rows.parquet.
func FormatOf(name string) (Format, Compression, error) {
	base, ext := cutExtension(name)
	compression := Plain
	switch ext {
	case "gz", "gzip":
		compression = Gzip
	case "zst", "zstd":
		compression = Zstd
	}
	if compression != Plain {
		_, ext = cutExtension(base)
	}
	format, err := ParseFormat(ext)
	switch {
	case err != nil:
		return 0, compression, fmt.Errorf("the name %q does not say the format: expected .jsonl, .ndjson, .csv, .tsv or .parquet, "+
			"and .gz or .zst after it if the file is compressed", name)
	case format == Parquet && compression != Plain:
		return 0, compression, fmt.Errorf("%q: a Parquet file is compressed inside, it is not read or written inside %s", name, compression)
	}
	return format, compression, nil
}

func cutExtension(name string) (base, ext string) {
	dot := strings.LastIndexByte(name, '.')
	if dot < 0 || strings.ContainsAny(name[dot:], `/\`) {
		return name, ""
	}
	return name[:dot], strings.ToLower(name[dot+1:])
}
