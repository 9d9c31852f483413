package table

import "errors"

// openParquet opens a Parquet file.
func openParquet(Input) (Source, error) {
	return nil, errors.New("a Parquet file is not read yet")
}

// newParquetSink writes a Parquet file.
func newParquetSink(File, Spec, *Mark) (Sink, error) {
	return nil, errors.New("a Parquet file is not written yet")
}
