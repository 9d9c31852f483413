"""Makes the ONNX files of the models that the tests of cmd/sheaf do harm with.

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


def node(op, inputs, outputs, **kwargs):
    return helper.make_node(op, inputs, outputs, **kwargs)


def save(name, nodes, inputs, outputs, weights):
    graph = helper.make_graph(nodes, name, inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sheaf-tests")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    (HERE / name / "1").mkdir(parents=True, exist_ok=True)
    onnx.save(model, HERE / name / "1" / "model.onnx")


# poison: y = 3 x, and the death of the process if one of the numbers is 666.
#
# ONNX Runtime looks for division by zero before it divides, but not for the one other division of integers that has
# no result: the lowest number by -1. The processor answers it with a trap on x86-64 (SIGFPE), which nothing survives.
# On arm64 there is no such trap.
save(
    "poison",
    [
        node("Equal", ["x", "bad"], ["is_bad"]),
        node("Where", ["is_bad", "minus_one", "one"], ["divisor"]),
        node("Mod", ["lowest", "divisor"], ["zero"]),
        node("Mul", ["x", "three"], ["tripled"]),
        node("Add", ["tripled", "zero"], ["y"]),
    ],
    [tensor("x", T.INT64, ["n", 4])],
    [tensor("y", T.INT64, ["n", 4])],
    [
        ("bad", np.array(666, np.int64)),
        ("one", np.array(1, np.int64)),
        ("minus_one", np.array(-1, np.int64)),
        ("three", np.array(3, np.int64)),
        ("lowest", np.array(np.iinfo(np.int64).min, np.int64)),
    ],
)

# slow: y = 2 value + 1, after as many thousand rounds of work as the row of the batch with the most asks for.
#
# The work multiplies the unit matrix by itself, which makes the 1 that is added: the result is exact, whatever the
# other rows ask for.
body = helper.make_graph(
    [node("Identity", ["go"], ["go_on"]), node("MatMul", ["v", "unit"], ["next"])],
    "body",
    [tensor("i", T.INT64, []), tensor("go", T.BOOL, []), tensor("v", T.FLOAT, [64, 64])],
    [tensor("go_on", T.BOOL, []), tensor("next", T.FLOAT, [64, 64])],
)
save(
    "slow",
    [
        node("Split", ["x"], ["thousands", "value"], axis=1, num_outputs=2),
        node("ReduceMax", ["thousands"], ["most"], keepdims=0),
        node("Mul", ["most", "thousand"], ["turns"]),
        node("Cast", ["turns"], ["count"], to=T.INT64),
        node("Loop", ["count", "go", "unit"], ["worked"], body=body),
        node("ReduceMax", ["worked"], ["one"], keepdims=0),
        node("Mul", ["value", "two"], ["twice"]),
        node("Add", ["twice", "one"], ["y"]),
    ],
    [tensor("x", T.FLOAT, ["n", 2])],
    [tensor("y", T.FLOAT, ["n", 1])],
    [
        ("unit", np.eye(64, dtype=np.float32)),
        ("go", np.array(True)),
        ("two", np.array(2, np.float32)),
        ("thousand", np.array(1000, np.float32)),
    ],
)
