"""The models of the proof: with random weights, since the arithmetic is what counts.

`quick` makes them tiny, with the same operators, to rehearse on a CPU.
"""

import shutil
from math import sqrt
from pathlib import Path

from onnx_file import FLOAT, FLOAT16, INT64, Graph

SEQUENCE, HEADS = 128, 12
CLASSES = 1000
PIXELS = "[inputs.pixels.convert]\nlayout = 'HWC'\nmean = [0.485, 0.456, 0.406]\ndeviation = [0.229, 0.224, 0.225]\n"


def encoder(datatype, quick):
    """BERT-base: 12 layers of 768, sequences of 128 tokens, no mask; the mean of its last layer."""
    layers, width, vocabulary = (1, 96, 200) if quick else (12, 768, 30_522)
    graph = Graph(datatype)

    def linear(x, rows, columns):
        product = graph.node("MatMul", x, graph.weight([rows, columns], 1 / sqrt(rows)))
        return graph.node("Add", product, graph.weight([columns], 0.02))

    def norm(x):
        gain = graph.weight([width], 0.02, about=1.0)
        return graph.node("LayerNormalization", x, gain, graph.weight([width], 0.02), axis=-1, epsilon=1e-5)

    heads = graph.numbers(0, SEQUENCE, HEADS, width // HEADS)
    whole = graph.numbers(0, SEQUENCE, width)
    part = lambda x, *order: graph.node("Transpose", graph.node("Reshape", linear(x, width, width), heads), perm=order)
    ids = graph.input("ids", INT64, ["batch", SEQUENCE])
    words = graph.node("Gather", graph.weight([vocabulary, width], 1.0), ids)
    x = norm(graph.node("Add", words, graph.weight([1, SEQUENCE, width], 0.1)))
    scale, half = graph.scalar(1 / sqrt(width // HEADS)), graph.scalar(0.5)
    root, one = graph.scalar(sqrt(2)), graph.scalar(1.0)
    for _ in range(layers):
        query, key, value = part(x, 0, 2, 1, 3), part(x, 0, 2, 3, 1), part(x, 0, 2, 1, 3)
        scores = graph.node("Mul", graph.node("MatMul", query, key), scale)
        seen = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
        seen = graph.node("Reshape", graph.node("Transpose", seen, perm=[0, 2, 1, 3]), whole)
        x = norm(graph.node("Add", x, linear(seen, width, width)))
        wide = linear(x, width, 4 * width)
        # GELU, as exporters write it.
        error = graph.node("Add", graph.node("Erf", graph.node("Div", wide, root)), one)
        wide = graph.node("Mul", graph.node("Mul", wide, error), half)
        x = norm(graph.node("Add", x, linear(wide, 4 * width, width)))
    mean = graph.node("ReduceMean", x, axes=[1], keepdims=0)
    graph.node("Cast", mean, output="embedding", to=FLOAT)
    graph.output("embedding", FLOAT, ["batch", width])
    return graph


def resnet50(datatype, quick):
    """ResNet-50 as it is served: batch norms are folded into the convolutions."""
    blocks, base, side = ((1, 1, 1, 1), 8, 64) if quick else ((3, 4, 6, 3), 64, 224)
    graph = Graph(datatype)

    def convolution(x, into, out, kernel, stride=1, scale=1.0):
        weight = graph.weight([out, into, kernel, kernel], scale * sqrt(2 / (into * kernel * kernel)))
        sides = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        return graph.node("Conv", x, weight, graph.weight([out], 0.02), **sides)

    relu = lambda x: graph.node("Relu", x)
    pixels = graph.input("pixels", FLOAT, ["batch", 3, side, side])
    x = graph.node("Cast", pixels, to=datatype) if datatype != FLOAT else pixels
    x = relu(convolution(x, 3, base, 7, 2))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    width = base
    for stage, count in enumerate(blocks):
        inner = base << stage
        for block in range(count):
            stride = 2 if block == 0 and stage > 0 else 1
            way = relu(convolution(x, width, inner, 1))
            way = relu(convolution(way, inner, inner, 3, stride))
            # Narrow, so that what sums up over sixteen blocks fits 16 bits.
            way = convolution(way, inner, 4 * inner, 1, scale=0.25)
            if block == 0:
                x = convolution(x, width, 4 * inner, 1, stride, scale=0.7)
            width = 4 * inner
            x = relu(graph.node("Add", way, x))
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    x = graph.node("Gemm", x, graph.weight([width, CLASSES], 1 / sqrt(width)), graph.weight([CLASSES], 0.02))
    graph.node("Cast", x, output="logits", to=FLOAT)
    graph.output("logits", FLOAT, ["batch", CLASSES])
    return graph


def mlp(width):
    graph = Graph()
    x = graph.input("x", FLOAT, ["batch", width])
    for layer in range(4):
        x = graph.node("Gemm", x, graph.weight([width, width], sqrt(2 / width)), graph.weight([width], 0.1))
        x = graph.node("Relu", x, output="y" if layer == 3 else None)
    graph.output("y", FLOAT, ["batch", width])
    return graph


def accumulator(_datatype, _quick):
    """The sum so far of all that a stream has sent."""
    graph = Graph()
    graph.input("x", FLOAT, ["batch", 4])
    graph.input("state", FLOAT, ["batch", 4])
    graph.node("Add", "x", "state", output="y")
    graph.node("Identity", "y", output="state_out")
    graph.output("y", FLOAT, ["batch", 4])
    graph.output("state_out", FLOAT, ["batch", 4])
    return graph


STATE = "[sequence_batching]\nmax_candidate_sequences = 2000\nstate = [{ input_name = 'state', output_name = 'state_out' }]\n"

# Name → how it is made, its numbers, its largest batch on a GPU, and the rest of its model.toml.
MODELS = {
    "bert_fp32": (encoder, FLOAT, 64, ""),
    "bert_fp16": (encoder, FLOAT16, 128, ""),
    "resnet50_fp32": (resnet50, FLOAT, 64, PIXELS),
    "resnet50_fp16": (resnet50, FLOAT16, 128, PIXELS),
    "mlp1024": (lambda _, quick: mlp(64 if quick else 1024), FLOAT, 1024, ""),
    "mlp64": (lambda *_: mlp(64), FLOAT, 256, ""),
    "accumulator": (accumulator, FLOAT, 256, STATE),
}
SILERO = "silero_vad"


def make(folder, names, quick):
    """Makes what is not there yet; the same bytes come out of every run."""
    for name in names:
        build, datatype, limit, more = MODELS[name]
        path = folder / name / "1" / "model.onnx"
        if not path.exists():
            build(datatype, quick).write(path)
        limit = min(limit, 8) if quick else limit
        (folder / name / "model.toml").write_text(f"max_batch_size = {limit}\n{more}")


def silero(bundled, folder, limit, streams):
    """The bundled model with its own settings but for the batch, and how many streams there may be."""
    text = (bundled / SILERO / "model.toml").read_text()
    text = text.replace("max_batch_size = 64", f"max_batch_size = {limit}")
    text = text.replace("max_candidate_sequences = 8192", f"max_candidate_sequences = {streams}")
    place = folder / SILERO
    shutil.copytree(bundled / SILERO, place, dirs_exist_ok=True)
    (place / "model.toml").write_text(text)


def linked(folder, repository, name, settings):
    """The same model under other settings, in a repository of its own."""
    place = Path(folder) / name
    (place / "1").mkdir(parents=True, exist_ok=True)
    for file in (repository / name / "1").iterdir():
        target = place / "1" / file.name
        if not target.exists():
            target.symlink_to(file.resolve())
    (place / "model.toml").write_text(settings)
