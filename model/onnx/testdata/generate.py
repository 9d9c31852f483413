"""Makes the small ONNX files that the tests of model/onnx run.

    pip install onnx numpy
    python generate.py

The files are committed, so this is needed only to change them.
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).parent
OPSET = 21
IR_VERSION = 10


def tensor(name, elem, shape):
    return helper.make_tensor_value_info(name, elem, shape)


def save(name, nodes, inputs, outputs, weights=(), opset=OPSET, ir_version=IR_VERSION, **kwargs):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, producer_name="sheaf-tests")
    model.ir_version = ir_version
    onnx.save(model, HERE / f"{name}.onnx", **kwargs)


def node(op, inputs, outputs, **kwargs):
    return helper.make_node(op, inputs, outputs, **kwargs)


# One model for each datatype: y = x.
for name, elem in {
    "bool": T.BOOL, "uint8": T.UINT8, "uint16": T.UINT16, "uint32": T.UINT32, "uint64": T.UINT64,
    "int8": T.INT8, "int16": T.INT16, "int32": T.INT32, "int64": T.INT64,
    "fp16": T.FLOAT16, "bf16": T.BFLOAT16, "fp32": T.FLOAT, "fp64": T.DOUBLE, "bytes": T.STRING,
}.items():
    save(f"identity_{name}", [node("Identity", ["x"], ["y"])], [tensor("x", elem, ["n", 3])], [tensor("y", elem, ["n", 3])])
    # The same, with a second dimension that varies and has no name.
    save(f"free_{name}", [node("Identity", ["x"], ["y"])], [tensor("x", elem, ["n", None])], [tensor("y", elem, ["n", None])])

for name, elem in {"fp16": T.FLOAT16, "bf16": T.BFLOAT16}.items():
    save(f"named_{name}", [node("Identity", ["x"], ["y"])],
         [tensor("x", elem, ["n", "length"])], [tensor("y", elem, ["n", "length"])])
    save(f"scalar_{name}", [node("Identity", ["x"], ["y"])], [tensor("x", elem, [])], [tensor("y", elem, [])])

# Several inputs and outputs.
save("two_inputs", [node("Cast", ["b"], ["c"], to=T.FLOAT), node("Add", ["a", "c"], ["sum"])],
     [tensor("a", T.FLOAT, ["n", 2]), tensor("b", T.INT64, ["n", 1])], [tensor("sum", T.FLOAT, ["n", 2])])
save("two_outputs", [node("Add", ["x", "one"], ["plus_one"]), node("Greater", ["x", "one"], ["above_one"])],
     [tensor("x", T.FLOAT, ["n", 2])], [tensor("plus_one", T.FLOAT, ["n", 2]), tensor("above_one", T.BOOL, ["n", 2])],
     [("one", np.array([1], np.float32))])
save("weight_among_inputs", [node("Add", ["x", "w"], ["y"])],
     [tensor("x", T.FLOAT, ["n", 2]), tensor("w", T.FLOAT, [2])], [tensor("y", T.FLOAT, ["n", 2])],
     [("w", np.array([1, 2], np.float32))])

# Shapes.
save("sequence_length", [node("Add", ["x", "x"], ["twice"]), node("ReduceSum", ["x", "axes"], ["total"], keepdims=0)],
     [tensor("x", T.FLOAT, ["n", "length"])], [tensor("twice", T.FLOAT, ["n", "length"]), tensor("total", T.FLOAT, ["n"])],
     [("axes", np.array([1], np.int64))])
save("fixed", [node("Add", ["x", "x"], ["y"])], [tensor("x", T.FLOAT, [2, 2])], [tensor("y", T.FLOAT, [2, 2])])
save("scalars", [node("Mul", ["x", "k"], ["y"]), node("ReduceSum", ["y"], ["total"], keepdims=0)],
     [tensor("x", T.FLOAT, [2]), tensor("k", T.FLOAT, [])], [tensor("y", T.FLOAT, [2]), tensor("total", T.FLOAT, [])])
save("scalar_string", [node("Gather", ["x", "zero"], ["first"])], [tensor("x", T.STRING, [2])], [tensor("first", T.STRING, [])],
     [("zero", np.array(0, np.int64))])
save("constant", [node("Identity", ["x"], ["y"])], [tensor("x", T.FLOAT, [2])], [tensor("y", T.FLOAT, [2]), tensor("w", T.FLOAT, [3])],
     [("w", np.array([7, 8, 9], np.float32))])
save("passed_through", [node("Add", ["x", "x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])],
     [tensor("y", T.FLOAT, ["n", 2]), tensor("x", T.FLOAT, ["n", 2])])
save("reshaped", [node("Reshape", ["x", "shape"], ["y"])], [tensor("x", T.FLOAT, ["n", 4])], [tensor("y", T.FLOAT, ["n", 2, 2])],
     [("shape", np.array([-1, 2, 2], np.int64))])
save("passed_through_strings", [node("Identity", ["x"], ["y"])], [tensor("x", T.STRING, ["n"])], [tensor("y", T.STRING, ["n"]), tensor("x", T.STRING, ["n"])])
save("passed_through_scalar", [node("Add", ["x", "x"], ["y"])], [tensor("x", T.FLOAT, [])], [tensor("y", T.FLOAT, []), tensor("x", T.FLOAT, [])])
same = helper.make_graph([node("Identity", ["x"], ["kept"])], "same", [], [tensor("kept", T.FLOAT, ["n", 2])])
twice = helper.make_graph([node("Add", ["x", "x"], ["twice"])], "twice", [], [tensor("twice", T.FLOAT, ["n", 2])])
save("branches", [node("ReduceMax", ["x"], ["highest"], keepdims=0), node("Greater", ["highest", "ten"], ["large"]),
                  node("If", ["large"], ["y"], then_branch=same, else_branch=twice)],
     [tensor("x", T.FLOAT, ["n", 2])], [tensor("y", T.FLOAT, ["n", 2])], [("ten", np.array(10, np.float32))])
no_shape = tensor("y", T.FLOAT, None)
no_type = onnx.ValueInfoProto(name="y")
for name, output in {"output_without_shape": no_shape, "output_without_type": no_type}.items():
    save(name, [node("Add", ["x", "x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])], [output])

# Strings.
save("labels", [node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", keys_int64s=[0, 1, 2],
                     values_strings=["", "one", "zw\u00f6lf"], default_string="?")],
     [tensor("x", T.INT64, ["n"])], [tensor("y", T.STRING, ["n"])])

# Outputs that do not follow the batch axis although they are declared to.
save("sum_of_batch", [node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)], [tensor("x", T.FLOAT, ["n", 3])], [tensor("y", T.FLOAT, ["n", 3])],
     [("axes", np.array([0], np.int64))])
save("positive_rows", [node("ReduceMin", ["x", "axes"], ["lowest"], keepdims=0), node("Greater", ["lowest", "zero"], ["positive"]),
                       node("Compress", ["x", "positive"], ["y"], axis=0)],
     [tensor("x", T.FLOAT, ["n", 3])], [tensor("y", T.FLOAT, ["n", 3])], [("axes", np.array([1], np.int64)), ("zero", np.array(0, np.float32))])
save("positions", [node("NonZero", ["x"], ["z"]), node("Transpose", ["z"], ["y"])],
     [tensor("x", T.FLOAT, ["n", 3])], [tensor("y", T.INT64, ["found", None])])

# Rows that influence each other, which only running them shows.
save("mean_of_batch", [node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1), node("Sub", ["x", "mean"], ["y"])],
     [tensor("x", T.FLOAT, ["n", 2])], [tensor("y", T.FLOAT, ["n", 2])], [("axes", np.array([0], np.int64))])
save("transposed", [node("Transpose", ["x"], ["y"])], [tensor("x", T.FLOAT, ["n", "m"])], [tensor("y", T.FLOAT, ["a", "b"])])

# Runs that fail, and one that ends when it is told to.
save("lookup", [node("Gather", ["table", "x"], ["y"])], [tensor("x", T.INT64, ["n", 1])], [tensor("y", T.FLOAT, ["n", 1])],
     [("table", np.array([10, 20, 30], np.float32))])
save("huge", [node("ConstantOfShape", ["x"], ["y"])], [tensor("x", T.INT64, [2])], [tensor("y", T.FLOAT, [None, None])])
# Takes as much memory as its largest number says, and adds nothing: one greedy row starves the whole batch.
save("hungry", [node("Abs", ["x"], ["size"]), node("ReduceMax", ["size"], ["largest"], keepdims=0), node("Reshape", ["largest", "one"], ["shape"]),
                node("ConstantOfShape", ["shape"], ["zeros"]), node("ReduceSum", ["zeros"], ["zero"], keepdims=0),
                node("Cast", ["x"], ["same"], to=T.FLOAT), node("Add", ["same", "zero"], ["y"])],
     [tensor("x", T.INT64, ["n", 1])], [tensor("y", T.FLOAT, ["n", 1])], [("one", np.array([1], np.int64))])
body = helper.make_graph(
    [node("Identity", ["go"], ["go_on"]), node("MatMul", ["v", "v"], ["next"])], "body",
    [tensor("i", T.INT64, []), tensor("go", T.BOOL, []), tensor("v", T.FLOAT, [64, 64])],
    [tensor("go_on", T.BOOL, []), tensor("next", T.FLOAT, [64, 64])])
save("loop", [node("Loop", ["count", "go", "x"], ["y"], body=body)], [tensor("x", T.FLOAT, [64, 64]), tensor("count", T.INT64, [])],
     [tensor("y", T.FLOAT, [64, 64])], [("go", np.array(True))])

# What cannot be served.
save("zipmap", [node("ZipMap", ["x"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1])], [tensor("x", T.FLOAT, ["n", 2])],
     [helper.make_value_info("y", helper.make_sequence_type_proto(
         helper.make_map_type_proto(T.INT64, helper.make_tensor_type_proto(T.FLOAT, []))))])
save("sequence", [node("SequenceConstruct", ["x", "x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])],
     [helper.make_tensor_sequence_value_info("y", T.FLOAT, ["n", 2])])
save("optional", [node("Optional", ["x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])],
     [helper.make_value_info("y", helper.make_optional_type_proto(helper.make_tensor_type_proto(T.FLOAT, ["n", 2])))])
save("complex", [node("Identity", ["x"], ["y"])], [tensor("x", T.COMPLEX64, ["n", 2])], [tensor("y", T.COMPLEX64, ["n", 2])])
save("float8", [node("Identity", ["x"], ["y"])], [tensor("x", T.FLOAT8E5M2, ["n", 2])], [tensor("y", T.FLOAT8E5M2, ["n", 2])])
save("input_without_shape", [node("Add", ["x", "x"], ["y"])], [tensor("x", T.FLOAT, None)], [tensor("y", T.FLOAT, ["n", 2])])
save("opset_too_new", [node("Identity", ["x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])], [tensor("y", T.FLOAT, ["n", 2])], opset=99)
save("ir_too_new", [node("Identity", ["x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])], [tensor("y", T.FLOAT, ["n", 2])], ir_version=99)
save("unknown_operator", [node("NoSuchOperator", ["x"], ["y"])], [tensor("x", T.FLOAT, ["n", 2])], [tensor("y", T.FLOAT, ["n", 2])])

# Weights in a file of their own. onnx appends to a file that is there.
(HERE / "external.weights").unlink(missing_ok=True)
save("external", [node("Add", ["x", "w"], ["y"])], [tensor("x", T.FLOAT, ["n", 512])], [tensor("y", T.FLOAT, ["n", 512])],
     [("w", np.arange(512, dtype=np.float32))], save_as_external_data=True, location="external.weights", size_threshold=0)

# What the benchmark runs: 64 -> 128 -> 10, the size of the digits model.
rng = np.random.default_rng(1)
save("mlp", [node("MatMul", ["x", "w1"], ["a"]), node("Relu", ["a"], ["b"]), node("MatMul", ["b", "w2"], ["c"]), node("Softmax", ["c"], ["y"])],
     [tensor("x", T.FLOAT, ["n", 64])], [tensor("y", T.FLOAT, ["n", 10])],
     [("w1", rng.normal(size=(64, 128)).astype(np.float32) / 8), ("w2", rng.normal(size=(128, 10)).astype(np.float32) / 8)])
