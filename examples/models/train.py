"""Trains the demo models, exports them to ONNX and writes their held-out rows.

    python train.py             train all, replace the committed files
    python train.py digits      only this one
    python train.py --check     train all, write nothing, fail if the result differs from the committed files

Every random choice has a fixed seed and the linear algebra runs on one thread, so that with the versions of
requirements.txt a run on the same kind of CPU gives the same bytes. Another kind of CPU may round differently while it
trains: then --check says so, and compares accuracy instead.
"""

import os

# Before numpy is imported: the order of a sum must not depend on the number of cores.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import json
import pathlib
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import skl2onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

HERE = pathlib.Path(__file__).resolve().parent
SEED = 0
# Versions of the file format that every ONNX Runtime since 1.15 reads.
OPSET = 17
ML_OPSET = 3
IR_VERSION = 8


def train_digits():
    """An MLP 64-128-10 on 8x8 images, with each training image also moved by one pixel in four directions."""
    data = load_digits()
    train_x, test_x, train_y, test_y = train_test_split(
        data.data, data.target, test_size=360, stratify=data.target, random_state=SEED
    )
    net = MLPClassifier((128,), alpha=0.1, max_iter=60, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of passes is chosen, not a failure
        net.fit(*shifted(train_x / 16, train_y))

    def constant(name, value):
        return numpy_helper.from_array(np.asarray(value, dtype=np.float32), name)

    # Written by hand and not by skl2onnx: one output, no labels, and the scaling of the pixels is part of the graph.
    graph = helper.make_graph(
        [
            helper.make_node("Div", ["x", "pixel_max"], ["scaled"]),
            helper.make_node("Gemm", ["scaled", "hidden_weight", "hidden_bias"], ["hidden_sum"]),
            helper.make_node("Relu", ["hidden_sum"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "output_weight", "output_bias"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
        ],
        "digits",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])],
        [
            constant("pixel_max", 16),
            constant("hidden_weight", net.coefs_[0]),
            constant("hidden_bias", net.intercepts_[0]),
            constant("output_weight", net.coefs_[1]),
            constant("output_bias", net.intercepts_[1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sheaf-examples")
    return model, test_x, test_y, net.predict_proba(test_x / 16)


def shifted(images, labels):
    """The images, and the images moved by one pixel to each side, with what moves in left empty."""
    grid = images.reshape(-1, 8, 8)
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    moved = [padded[:, row : row + 8, column : column + 8].reshape(-1, 64) for row, column in moves]
    return np.concatenate(moved), np.tile(labels, len(moves))


def train_tumor():
    """Gradient boosting, 100 trees on 30 measurements, exported by skl2onnx with the operators of ai.onnx.ml."""
    data = load_breast_cancer()
    # The graph works in 32-bit floats, so the trees are trained on what they will see.
    rows = data.data.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        rows, data.target, test_size=142, stratify=data.target, random_state=SEED
    )
    trees = GradientBoostingClassifier(n_estimators=100, random_state=SEED).fit(train_x, train_y)
    model = skl2onnx.to_onnx(
        trees,
        name="tumor",
        initial_types=[("x", skl2onnx.common.data_types.FloatTensorType([None, rows.shape[1]]))],
        options={"zipmap": False},
        target_opset={"": OPSET, "ai.onnx.ml": ML_OPSET},
    )
    rename(model.graph)
    return model, test_x, test_y, trees.predict_proba(test_x)


def rename(graph):
    """Gives the batch axis a name and states the shapes of both outputs."""
    label, probabilities = graph.output
    for value in (*graph.input, label, probabilities):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    if [label.name, probabilities.name] != ["label", "probabilities"]:
        raise SystemExit(f"skl2onnx named the outputs {label.name}, {probabilities.name}: expected label, probabilities")


MODELS = {"digits": train_digits, "tumor": train_tumor}


def make(name):
    """Trains one model. Returns the bytes of its ONNX file, the lines of heldout.jsonl and the accuracy."""
    model, rows, labels, reference = MODELS[name]()
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString(deterministic=True)

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, {"x": rows.astype(np.float32)})))
    probabilities = outputs["probabilities"]
    worst = np.abs(probabilities - reference).max()
    if worst > 1e-5:
        raise SystemExit(f"{name}: the exported model differs from scikit-learn's by {worst:.2g}")

    predicted = probabilities.argmax(axis=1)
    lines = []
    for i, row in enumerate(rows):
        line = {"input": shortest(row), "label": int(labels[i])}
        if "label" in outputs:
            line["predicted"] = int(outputs["label"][i])
        line["probabilities"] = shortest(probabilities[i])
        lines.append(json.dumps(line, separators=(",", ":")) + "\n")
    return content, "".join(lines), float((predicted == labels).mean())


def shortest(values):
    """The numbers in the fewest digits that give the same 32-bit float again; whole numbers without a point."""
    numbers = [float(str(np.float32(value))) for value in values]
    return [int(number) if number.is_integer() else number for number in numbers]


def accuracy_of(lines):
    rows = [json.loads(line) for line in lines.splitlines()]
    return float(np.mean([np.argmax(row["probabilities"]) == row["label"] for row in rows]))


def check(name, content, lines, accuracy):
    """Compares a fresh model with the committed one; returns whether it is as good."""
    same = (HERE / name / "1" / "model.onnx").read_bytes() == content
    same = same and (HERE / name / "heldout.jsonl").read_text() == lines
    if same:
        print(f"{name}: the same bytes as committed, accuracy {accuracy:.4f}")
        return True
    committed = accuracy_of((HERE / name / "heldout.jsonl").read_text())
    print(f"{name}: other bytes than committed; accuracy {accuracy:.4f}, committed {committed:.4f}")
    return abs(accuracy - committed) <= 0.01


def main():
    parser = argparse.ArgumentParser(description="Trains the demo models.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="one of: " + ", ".join(MODELS))
    parser.add_argument("--check", action="store_true", help="compare with the committed files and write nothing")
    args = parser.parse_args()
    if unknown := set(args.models) - set(MODELS):
        parser.error(f"no such model: {', '.join(sorted(unknown))}; choose from {', '.join(MODELS)}")

    good = True
    for name in args.models or MODELS:
        content, lines, accuracy = make(name)
        if args.check:
            good = check(name, content, lines, accuracy) and good
            continue
        (HERE / name / "1").mkdir(parents=True, exist_ok=True)
        (HERE / name / "1" / "model.onnx").write_bytes(content)
        (HERE / name / "heldout.jsonl").write_text(lines)
        print(f"{name}: {len(content)} bytes, {lines.count(chr(10))} held-out rows, accuracy {accuracy:.4f}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
