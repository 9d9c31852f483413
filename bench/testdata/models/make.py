"""Makes the heavy models of the benchmark: real work, small files.

    .cache/models-venv/bin/python bench/testdata/models/make.py

They are not trained. Their weights are sines of their places, computed from the graph's own constants, which ONNX Runtime
does once when it loads the file; so a file has a few kilobytes and a run the cost of a model with megabytes of weights.
One row of mlp and cnn takes about 5 ms on one core of a server, one of encoder 20. They differ in what batching gains:

    mlp   96 layers of 1024 x 1024 that share one matrix: a row alone reads the matrix for itself, rows together share
          the reading, so a batch of 32 has several times the rows a second
    cnn   convolutions over 64 x 64 pixels: the arithmetic is the bound, and a batch gains next to nothing. Its input
          is 8 x 8, made larger inside, so that a request is small and JSON is not the bound
    encoder  the shape of MiniLM: six layers of attention with 12 heads and a width of 384, over 64 tokens; a batch gains
          little. Its 64 inputs stand for the tokens
"""

import math
import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
OPSET = 17
IR_VERSION = 8


class Graph:
    """Nodes and constants of a graph, with names made up on the way."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, value, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def add(self, op, *inputs, **attributes):
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def weights(self, shape, seed, scale=1.0):
        """A tensor that looks random: sines of multiples of a large angle, scaled so that a layer keeps the variance."""
        size = math.prod(shape)
        fan_in = shape[0] if len(shape) == 2 else math.prod(shape[1:])
        places = self.add("Range", self.constant(0), self.constant(size), self.constant(1))
        angles = self.add("Mul", places, self.constant(12.9898 + seed))
        values = self.add("Mul", self.add("Sin", angles), self.constant(scale * math.sqrt(2 / fan_in)))
        return self.add("Reshape", values, self.constant(shape, np.int64))

    def save(self, name, row, classes, logits, description, max_rows):
        self.nodes.append(helper.make_node("Softmax", [logits], ["y"], axis=1))
        graph = helper.make_graph(
            self.nodes,
            name,
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", *row])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", classes])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        onnx.checker.check_model(model, full_check=True)
        directory = HERE / name / "1"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
        (HERE / name / "model.yaml").write_text(
            f"description: {description}\nbatching:\n  max_rows: {max_rows}\n", encoding="utf-8"
        )


def mlp(width=1024, layers=96, classes=10):
    g = Graph()
    shared = g.weights([width, width], 0)
    x = g.add("MatMul", "x", g.weights([64, width], 1))
    for _ in range(layers):
        # A step that adds little keeps the input visible to the end, and rounding small.
        step = g.add("Tanh", g.add("MatMul", x, shared))
        x = g.add("Add", x, g.add("Mul", step, g.constant(0.1)))
    logits = g.add("MatMul", x, g.weights([width, classes], 2, scale=4))
    g.save("mlp", [64], classes, logits, "Ninety-six layers that share one matrix, for the benchmark", 32)


def cnn(channels=64, blocks=13, classes=10):
    g = Graph()
    conv = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    large = g.add("Resize", "x", "", g.constant([1, 1, 8, 8]), mode="nearest")
    x = g.add("Relu", g.add("Conv", large, g.weights([channels, 1, 3, 3], 0), strides=[2, 2], **conv))
    for block in range(blocks):
        step = g.add("Relu", g.add("Conv", x, g.weights([channels, channels, 3, 3], 1 + block), **conv))
        x = g.add("Add", x, g.add("Mul", step, g.constant(0.5)))
    pooled = g.add("Flatten", g.add("GlobalAveragePool", x), axis=1)
    logits = g.add("MatMul", pooled, g.weights([channels, classes], 20, scale=40))
    g.save("cnn", [1, 8, 8], classes, logits, "Convolutions over 64x64 pixels, for the benchmark", 4)


def encoder(tokens=64, width=384, heads=12, layers=6, classes=10):
    g = Graph()
    head = width // heads

    def norm(x):
        return g.add("LayerNormalization", x, g.constant(np.ones(width)), g.constant(np.zeros(width)), axis=-1)

    def split(x, order):
        parts = g.add("Reshape", x, g.constant([0, tokens, heads, head], np.int64))
        return g.add("Transpose", parts, perm=order)

    each = g.add("Unsqueeze", "x", g.constant([2], np.int64))
    x = norm(g.add("Add", g.add("Mul", each, g.weights([width], 0, scale=20)), g.weights([tokens, width], 1, scale=8)))
    for layer in range(layers):
        seed = 2 + 10 * layer
        q = split(g.add("MatMul", x, g.weights([width, width], seed)), [0, 2, 1, 3])
        k = split(g.add("MatMul", x, g.weights([width, width], seed + 1)), [0, 2, 3, 1])
        v = split(g.add("MatMul", x, g.weights([width, width], seed + 2)), [0, 2, 1, 3])
        weights = g.add("Softmax", g.add("Mul", g.add("MatMul", q, k), g.constant(head**-0.5)), axis=-1)
        mixed = g.add("Transpose", g.add("MatMul", weights, v), perm=[0, 2, 1, 3])
        mixed = g.add("Reshape", mixed, g.constant([0, tokens, width], np.int64))
        x = norm(g.add("Add", x, g.add("MatMul", mixed, g.weights([width, width], seed + 3))))
        inner = g.add("MatMul", x, g.weights([width, 4 * width], seed + 4))
        gate = g.add("Add", g.add("Erf", g.add("Mul", inner, g.constant(0.5**0.5))), g.constant(1))
        inner = g.add("Mul", g.add("Mul", inner, gate), g.constant(0.5))
        x = norm(g.add("Add", x, g.add("MatMul", inner, g.weights([4 * width, width], seed + 5))))
    pooled = g.add("ReduceMean", x, axes=[1], keepdims=0)
    logits = g.add("MatMul", pooled, g.weights([width, classes], 100, scale=4))
    g.save("encoder", [tokens], classes, logits, "Six layers of attention over 64 tokens, for the benchmark", 4)


if __name__ == "__main__":
    mlp()
    cnn()
    encoder()
