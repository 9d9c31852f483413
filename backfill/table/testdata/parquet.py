"""Writes arrow1.parquet, arrow2.parquet and arrow.jsonl, what a reader should have in them. Needs pyarrow."""
import datetime, decimal, json
import pyarrow as pa, pyarrow.parquet as pq

N = 30
null = lambda i, k, v: None if i % k == 0 else v
D = decimal.Decimal
ints = {t: [(lo, hi, 0, 1)[i % 4] for i in range(N)] for t, lo, hi in [
    ("int8", -128, 127), ("int32", -2**31, 2**31 - 1), ("int64", -2**63, 2**63 - 1),
    ("uint8", 0, 255), ("uint32", 0, 2**32 - 1), ("uint64", 0, 2**64 - 1)]}
lists = [[None, [], [i], [None], [i, None, -i], list(range(i))][i % 6] for i in range(N)]
nested = [[[[1.5, 2], [i]], None, [], [[]], [[], [3, 4]], [None, [5, None]]][i % 6] for i in range(N)]
cols = [(t, pa.array(v, getattr(pa, t)()), v) for t, v in ints.items()]
def col(name, typ, values, want=None, **kw):
    cols.append((name, pa.array(values, typ), want or values))
col("half", pa.float16(), v := [i / 4 - 3 for i in range(N)])
col("float", pa.float32(), [null(i, 5, i / 8) for i in range(N)])
col("double", pa.float64(), [i / 7 for i in range(N)])
col("nan", pa.float64(), [float("nan")] * N, [None] * N)
col("bool", pa.bool_(), [i % 3 == 0 for i in range(N)])
col("maybe", pa.bool_(), [null(i, 3, i % 2 == 0) for i in range(N)])
col("text", pa.string(), ["é\"%d" % i * (i % 4) for i in range(N)])
col("none", pa.string(), [None] * N)
col("category", pa.dictionary(pa.int8(), pa.string()), ["ab"[i % 2] for i in range(N)])
col("decimal", pa.decimal128(10, 2), v := [D(i * 25 - 500).scaleb(-2) for i in range(N)], [float(d) for d in v])
col("date", pa.date32(), v := [datetime.date(1969, 12, 1 + i) for i in range(N)], [str(d) for d in v])
col("time", pa.timestamp("us"), v := [datetime.datetime(1969, 12, 31, 23, 59, 50) + datetime.timedelta(seconds=i, microseconds=i % 2) for i in range(N)], [d.isoformat() for d in v])
col("utc", pa.timestamp("ns", "UTC"), [i * 10**9 + i for i in range(N)], ["1970-01-01T00:00:%02d%sZ" % (i, (".%09d" % i).rstrip("0") if i else "") for i in range(N)])
col("millis", pa.timestamp("ms", "Europe/Berlin"), [i * 1000 for i in range(N)], ["1970-01-01T00:00:%02dZ" % i for i in range(N)])
col("clock", pa.time32("ms"), [i * 3600000 // 2 for i in range(N)], ["%02d:%s:00" % (i // 2, ("00", "30")[i % 2]) for i in range(N)])
col("list", pa.list_(pa.int64()), lists)
col("floats", pa.list_(pa.field("element", pa.float32(), nullable=False)), [[i, i / 2, .25] for i in range(N)])
col("fixed", pa.list_(pa.float32(), 2), [[i, -i] for i in range(N)])
col("bools", pa.list_(pa.bool_()), [[j % 3 == 0 for j in range(i % 5)] for i in range(N)])
col("texts", pa.list_(pa.string()), [null(i, 4, ["x" * j for j in range(i % 3)]) for i in range(N)])
col("nested", pa.list_(pa.list_(pa.float64())), nested, [v and [x for l in v if l for x in l] for v in nested])
col("struct", pa.struct([("a", pa.int32())]), [null(i, 4, {"a": null(i, 3, i)}) for i in range(N)], [null(i, 4, null(i, 3, i)) for i in range(N)])
col("nothing", pa.null(), [None] * N)
col("pair", pa.struct([("a", pa.int32()), ("b", pa.int32())]), [{"a": i, "b": 2} for i in range(N)], [None] * N)
col("map", pa.map_(pa.string(), pa.int32()), [[("a", i)] for i in range(N)], [None] * N)
table = pa.table([a for _, a, _ in cols], schema=pa.schema([pa.field(n, a.type, nullable=n != "int32") for n, a, _ in cols]))
for name, kw in [("arrow1", dict(data_page_version="1.0", compression="snappy", dictionary_pagesize_limit=40)),
                 ("arrow2", dict(data_page_version="2.0", compression="zstd", use_dictionary=["text", "category", "double", "list"]))]:
    pq.write_table(table, name + ".parquet", row_group_size=19, data_page_size=20, write_batch_size=5, write_statistics=False, store_schema=False, **kw)
with open("arrow.jsonl", "w") as f:
    for i in range(N):
        f.write(json.dumps({n: v[i] for n, _, v in cols}, ensure_ascii=False) + "\n")
