"""The loop that a data team would write for a Parquet file: pyarrow reads and writes, ONNX Runtime computes, on every core.

    pyloop.py MODEL.onnx IN.parquet OUT.parquet

The input has a column `id`, and `pixels`, a list, or columns p0, p1 … The output has what that of `sheaf backfill` has, in
the order of the input. Killed, it begins anew.
"""

import collections
import concurrent.futures
import os
import sys

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 65536  # rows of a piece of work: the fastest of 4096 to 131072
BATCH = 1024  # rows of a run: the fastest of 64 to 4096


def main(model: str, source: str, target: str) -> None:
    cores = len(os.sched_getaffinity(0))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # each core runs a chunk of its own
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    schema = pa.schema([("sheaf_row", pa.int64()), ("id", pa.int64()), ("prediction", pa.list_(pa.float32()))])

    def predict(first: int, chunk: pa.RecordBatch) -> pa.RecordBatch:
        if "pixels" in chunk.schema.names:
            x = chunk.column("pixels").flatten().to_numpy().reshape(len(chunk), -1)
        else:
            x = np.stack([chunk.column(c).to_numpy() for c in chunk.schema.names if c != "id"], axis=1)
        x = x.astype(np.float32, copy=False)
        y = np.concatenate([session.run(["probabilities"], {feed: x[i : i + BATCH]})[0] for i in range(0, len(x), BATCH)])
        offsets = np.arange(0, y.size + 1, y.shape[1], dtype=np.int32)
        lists = pa.ListArray.from_arrays(offsets, pa.array(y.reshape(-1)))
        rows = pa.array(np.arange(first, first + len(y), dtype=np.int64))
        return pa.record_batch([rows, chunk.column("id"), lists], schema=schema)

    first = 1
    pending: collections.deque[concurrent.futures.Future[pa.RecordBatch]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(cores) as pool, pq.ParquetWriter(target, schema) as out:
        for chunk in pq.ParquetFile(source).iter_batches(batch_size=CHUNK):
            pending.append(pool.submit(predict, first, chunk))
            first += len(chunk)
            if len(pending) > 2 * cores:
                out.write_batch(pending.popleft().result())
        while pending:
            out.write_batch(pending.popleft().result())


main(*sys.argv[1:])
