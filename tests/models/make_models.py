"""Makes the small models that tests and benches serve into `tests/models/repository`.

The same bytes come out of every run. A repeated run does nothing until this file changes.
"""

import hashlib
import shutil
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

REPOSITORY = Path(__file__).parent / "repository"

FLOAT, INT32, INT64, STRING = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.STRING

# Every datatype of the Open Inference Protocol, and ONNX's word for it.
DATATYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": INT32,
    "INT64": INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "BYTES": STRING,
}

BATCH_64 = "max_batch_size = 64\n"
ONE_AT_A_TIME = """\
max_batch_size = 1

[dynamic_batching]
max_queue_size = 4
"""


def tensor(name, datatype, *shape):
    """What an input or an output is; a dimension given by name is dynamic."""
    return helper.make_tensor_value_info(name, datatype, shape)


def node(op, inputs, output, **attributes):
    """One operator; inputs and outputs are names with spaces between."""
    return helper.make_node(op, inputs.split(), output.split(), **attributes)


def constant(name, value, dtype=np.float32):
    return numpy_helper.from_array(np.asarray(value, dtype), name)


def graph(inputs, outputs, nodes, constants=()):
    model = helper.make_model(
        helper.make_graph(nodes, "graph", inputs, outputs, list(constants)),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
        producer_name="make_models.py",
    )
    checker.check_model(model, full_check=True)
    return model


def identity(datatype):
    return graph(
        [tensor("INPUT0", datatype, "batch", "n")],
        [tensor("OUTPUT0", datatype, "batch", "n")],
        [node("Identity", "INPUT0", "OUTPUT0")],
    )


def identity_all():
    """All datatypes in one request, each as long as it likes."""
    ends = {
        way: [tensor(f"{way}_{name}", onnx, "batch", f"n_{name.lower()}") for name, onnx in DATATYPES.items()]
        for way in ("IN", "OUT")
    }
    return graph(ends["IN"], ends["OUT"], [node("Identity", f"IN_{name}", f"OUT_{name}") for name in DATATYPES])


def add(datatype):
    return graph(
        [tensor("A", datatype, "batch", 16), tensor("B", datatype, "batch", 16)],
        [tensor("SUM", datatype, "batch", 16)],
        [node("Add", "A B", "SUM")],
    )


def mlp(width, layers=4):
    """Work that gains from batches: a wide one is bound by reading its weights."""
    random = np.random.default_rng(width)
    constants, nodes, x = [], [], "x"
    for layer in range(layers):
        y = "y" if layer == layers - 1 else f"h{layer}"
        weight = random.standard_normal((width, width), np.float32) * np.sqrt(2 / width)
        constants.append(constant(f"w{layer}", weight))
        constants.append(constant(f"b{layer}", random.standard_normal(width, np.float32) * 0.1))
        nodes.append(node("Gemm", f"{x} w{layer} b{layer}", f"z{layer}"))
        nodes.append(node("Relu", f"z{layer}", y))
        x = y
    return graph([tensor("x", FLOAT, "batch", width)], [tensor("y", FLOAT, "batch", width)], nodes, constants)


def accumulator(*state):
    """The sum so far of all that a stream has sent; `state` broadcasts against `x`."""
    return graph(
        [tensor("x", FLOAT, "batch", 4), tensor("state", FLOAT, *state)],
        [tensor("y", FLOAT, *state), tensor("state_out", FLOAT, *state)],
        [node("Add", "x state", "y"), node("Identity", "y", "state_out")],
    )


def poison(value=666):
    """Doubles its input; where it meets the value, the run fails on an index that does not exist."""
    return graph(
        [tensor("x", FLOAT, "batch", 4)],
        [tensor("y", FLOAT, "batch", 4)],
        [
            node("Equal", "x value", "is_value"),
            node("Cast", "is_value", "index", to=INT64),
            node("Gather", "table index", "looked_up"),
            node("Mul", "x looked_up", "y"),
        ],
        [constant("value", value), constant("table", [2])],
    )


def slow(width=512, products=4):
    """Returns its input after large products that no batch size changes, and no optimizer can foresee."""
    weight = np.random.default_rng(0).standard_normal((width, width), np.float32) / np.sqrt(width)
    chain = [node("MatMul", f"m{i} w", f"m{i + 1}") for i in range(products)]
    return graph(
        [tensor("x", FLOAT, "batch", 4)],
        [tensor("y", FLOAT, "batch", 4)],
        [
            node("ReduceMax", "x", "seen", keepdims=0),
            node("Clip", "seen zero one", "start"),
            node("Add", "w start", "m0"),
            *chain,
            node("ReduceMax", f"m{products}", "most", keepdims=0),
            node("Mul", "most zero", "nothing"),
            node("Add", "x nothing", "y"),
        ],
        [constant("w", weight), constant("zero", 0), constant("one", 1)],
    )


def endless():
    """Doubles its input, after as many rounds of nothing as its largest number says: 1e15 of them take years."""
    body = helper.make_graph(
        [node("Identity", "again", "again_out"), node("Max", "sum_in x", "sum_out")],
        "round",
        [tensor("round", INT64), tensor("again", TensorProto.BOOL), tensor("sum_in", FLOAT, "batch", 4)],
        [tensor("again_out", TensorProto.BOOL), tensor("sum_out", FLOAT, "batch", 4)],
    )
    return graph(
        [tensor("x", FLOAT, "batch", 4)],
        [tensor("y", FLOAT, "batch", 4)],
        [
            node("ReduceMax", "x", "most", keepdims=0),
            node("Cast", "most", "rounds", to=INT64),
            node("Loop", "rounds yes x", "same", body=body),
            node("Add", "x same", "y"),
        ],
        [numpy_helper.from_array(np.asarray(True), "yes")],
    )


def fixed_batch():
    """No dynamic axis: a request is a run."""
    return graph(
        [tensor("x", FLOAT, 3, 4)],
        [tensor("y", FLOAT, 3, 4)],
        [node("Add", "x one", "y")],
        [constant("one", 1)],
    )


def dynamic_text():
    return graph(
        [tensor("text", STRING, "batch", 1)],
        [tensor("same", STRING, "batch", 1)],
        [node("Identity", "text", "same")],
    )


def sequence_length():
    """Requests of different lengths cannot share a batch."""
    return graph(
        [tensor("x", FLOAT, "batch", "length")],
        [tensor("sum", FLOAT, "batch", 1)],
        [node("ReduceSum", "x axis", "sum", keepdims=1)],
        [constant("axis", [1], np.int64)],
    )


def nan():
    """One for every number but 0, which makes NaN: JSON cannot carry it."""
    return graph(
        [tensor("x", FLOAT, "batch", 4)],
        [tensor("y", FLOAT, "batch", 4)],
        [node("Div", "x x", "y")],
    )


def choosy(moody=False):
    """Conditions on an input and on a shape; a moody one has a third, on what it is given."""

    def either(condition, y, then, otherwise):
        branch = lambda nodes, name: helper.make_graph(nodes, name, [], [tensor(name, FLOAT, "batch", "n")])
        return node(
            "If",
            condition,
            y,
            then_branch=branch([node(*then, f"{y}_then")], f"{y}_then"),
            else_branch=branch([node(*otherwise, f"{y}_else")], f"{y}_else"),
        )

    nodes = [
        node("Equal", "mode two", "is_two"),
        either("is_two", "scaled", ("Mul", "x two_point"), ("Mul", "x three_point")),
        node("Shape", "scaled", "shape"),
        node("Gather", "shape last", "length"),
        node("Equal", "length four", "is_four"),
        either("is_four", "moved" if moody else "y", ("Add", "scaled one"), ("Identity", "scaled")),
    ]
    if moody:
        nodes += [
            node("ReduceMax", "x", "most", keepdims=0),
            node("Less", "most one", "is_low"),
            either("is_low", "y", ("Neg", "moved"), ("Identity", "moved")),
        ]
    return graph(
        [tensor("x", FLOAT, "batch", "n"), tensor("mode", INT64)],
        [tensor("y", FLOAT, "batch", "n")],
        nodes,
        [
            *(constant(name, value, np.int64) for name, value in (("two", 2), ("four", 4), ("last", -1))),
            *(constant(name, value) for name, value in (("one", 1), ("two_point", 2), ("three_point", 3))),
        ],
    )


# What decides the first two conditions.
CHOICE = """\
max_batch_size = 64

[inputs]
mode = { constant = 2 }
x = { dims = [-1, 4] }
"""


def image():
    """A classifier of images of any size: a convolution, the mean of each of its planes, ten logits."""
    random = np.random.default_rng(3)
    return graph(
        [tensor("pixels", FLOAT, "batch", 3, "height", "width")],
        [tensor("logits", FLOAT, "batch", 10)],
        [
            node("Conv", "pixels kernel", "edges", strides=[2, 2], pads=[1, 1, 1, 1]),
            node("Relu", "edges", "seen"),
            node("GlobalAveragePool", "seen", "means"),
            node("Flatten", "means", "features"),
            node("Gemm", "features weight", "logits"),
        ],
        [
            constant("kernel", random.standard_normal((16, 3, 3, 3), np.float32)),
            constant("weight", random.standard_normal((16, 10), np.float32) * 4),
        ],
    )


# Each output of `reduced`, its type, and its reduction.
REDUCTIONS = {
    "softmax": (FLOAT, "softmax = true"),
    "top_k": (FLOAT, "top_k = 3"),
    "best": (FLOAT, "top_k = 2, softmax = true"),
    "argmax": (FLOAT, "argmax = true"),
    "l2_norm": (FLOAT, "l2_norm = true"),
    "threshold": (FLOAT, "threshold = 0.5"),
    "half": (TensorProto.FLOAT16, "softmax = true"),
    "brain": (TensorProto.BFLOAT16, "argmax = true"),
    "plain": (FLOAT, None),
}


def reduced():
    """Its input again and again, to be reduced in every way."""
    return graph(
        [tensor("x", FLOAT, "batch", 2, 7)],
        [tensor(name, datatype, "batch", 2, 7) for name, (datatype, _) in REDUCTIONS.items()],
        [node("Cast", "x", name, to=datatype) for name, (datatype, _) in REDUCTIONS.items()],
    )


def converted(settings):
    return f"{BATCH_64}\n[inputs.INPUT0.convert]\n{settings}\n"


# Name → the model, and its model.toml where the ONNX file does not say enough.
MODELS = {
    **{f"identity_{name.lower()}": (lambda onnx=onnx: identity(onnx), BATCH_64) for name, onnx in DATATYPES.items()},
    "identity_all": (identity_all, BATCH_64),
    "add_fp32": (lambda: add(FLOAT), BATCH_64),
    "add_int64": (lambda: add(INT64), BATCH_64),
    "mlp64": (lambda: mlp(64), BATCH_64),
    "mlp1024": (lambda: mlp(1024), BATCH_64),
    "accumulator": (lambda: accumulator("batch", 4), BATCH_64),
    "accumulator_axis1": (lambda: accumulator(2, "batch", 4), BATCH_64),
    "poison": (poison, BATCH_64),
    "slow": (slow, ONE_AT_A_TIME),
    "endless": (endless, BATCH_64),
    "fixed_batch": (fixed_batch, None),
    "dynamic_text": (dynamic_text, BATCH_64),
    "sequence_length": (sequence_length, BATCH_64),
    "nan": (nan, BATCH_64),
    "choosy": (choosy, CHOICE),
    "moody": (lambda: choosy(moody=True), CHOICE),
    "image": (
        image,
        """\
max_batch_size = 16

[inputs.pixels.convert]
layout = "HWC"
mean = [0.485, 0.456, 0.406]
deviation = [0.229, 0.224, 0.225]

[outputs.logits.reduce]
softmax = true
top_k = 3
""",
    ),
    "converted_uint8": (lambda: identity(FLOAT), converted('datatype = "UINT8"\nscale = 0.0078125\noffset = -1.0')),
    "converted_int16": (lambda: identity(FLOAT), converted('datatype = "INT16"\nscale = 0.000030517578125')),
    "converted_fp16": (lambda: identity(FLOAT), converted('datatype = "FP16"')),
    "converted_bf16": (lambda: identity(FLOAT), converted('datatype = "BF16"\nscale = 0.3\noffset = 0.7')),
    "reduced": (
        reduced,
        BATCH_64 + "".join(f"outputs.{name}.reduce = {{ {how} }}\n" for name, (_, how) in REDUCTIONS.items() if how),
    ),
}


def main():
    stamp = REPOSITORY / ".made-by"
    this_script = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == this_script:
        return
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    for name, (make, settings) in MODELS.items():
        version = REPOSITORY / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(make().SerializeToString(deterministic=True))
        if settings:
            (REPOSITORY / name / "model.toml").write_text(settings)
    stamp.write_text(this_script)
    print(f"made {len(MODELS)} models in {REPOSITORY}")


if __name__ == "__main__":
    main()
