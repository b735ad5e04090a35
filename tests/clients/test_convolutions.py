"""Short convolutions computed as matrix products: which, that they are right, and that a batch changes nothing."""

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT
from onnx import TensorProto, helper, numpy_helper
from silero import MODEL
from test_specialised import FIXED, STEPS, Steps, empty, noise, operators, specialise, speech

GEMM = "optimization.convolutions_as_gemm = true\n"
BATCHES = [1, 2, 3, 16, 64]


def convolution(kernel, length, channels=3, outputs=5, bias=True, opset=17, **attributes):
    """A model of one."""
    rng = np.random.default_rng(kernel)
    group = attributes.get("group", 1)
    weights = {"w": rng.standard_normal((outputs, channels // group, kernel), np.float32)}
    if bias:
        weights["b"] = rng.standard_normal(outputs, np.float32)
    node = helper.make_node("Conv", ["x", *weights], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", channels, length])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", outputs, "positions"])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(path, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def lowered(repository, model):
    """The model before and after, and its operators after."""
    path = empty(repository, GEMM) / "model.onnx"
    onnx.save(model, path)
    done = specialise(repository)
    assert (done.returncode, done.stderr) == (0, "")
    result = path.with_name("model.specialised.onnx")
    onnx.checker.check_model(result, full_check=True)
    return path, result, set(operators(onnx.load(result).graph))


@pytest.mark.parametrize(
    "model",
    [
        convolution(1, 1),
        convolution(3, 3),
        convolution(3, 9),
        convolution(3, 4, pads=[1, 1]),
        convolution(3, 4, pads=[2, 0], bias=False),
        convolution(3, 7, strides=[2], pads=[1, 1]),
        convolution(2, 8, strides=[3]),
        convolution(4, 16, strides=[4]),
        convolution(6, 20, strides=[4]),
        convolution(6, 21, strides=[4], pads=[1, 0]),
        convolution(6, 23, strides=[4]),
        convolution(256, 640, strides=[128], channels=1, outputs=258, bias=False),
        convolution(1, 15, channels=64, outputs=1),
        convolution(3, 17, dilations=[1], group=1, auto_pad="NOTSET"),
        convolution(3, 17, opset=11),
    ],
)
def test_a_product_gives_what_the_convolution_gives(tmp_path, model):
    before, after, found = lowered(tmp_path, model)
    assert "Gemm" in found and "Conv" not in found
    _, channels, length = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    x = np.random.default_rng(1).standard_normal((64, channels, length), np.float32)
    whole = run(after, {"x": x})
    np.testing.assert_allclose(whole, run(before, {"x": x}), rtol=1e-4, atol=1e-4)
    for batch in BATCHES:
        np.testing.assert_allclose(run(after, {"x": x[:batch]}), whole[:batch], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        convolution(1, 16),
        convolution(3, 18),
        convolution(3, "length"),
        convolution(3, 9, dilations=[2]),
        convolution(3, 9, channels=4, outputs=4, group=2),
        convolution(3, 9, auto_pad="SAME_UPPER"),
        convolution(3, 9, opset=10),
    ],
)
def test_others_stay_as_they_are(tmp_path, model):
    before, after, found = lowered(tmp_path, model)
    assert "Conv" in found and "Gemm" not in found
    _, channels, length = (dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)
    x = np.ones((3, channels, length or 9), np.float32)
    assert run(after, {"x": x}).tobytes() == run(before, {"x": x}).tobytes()


@pytest.mark.parametrize("signal", [noise, speech])
def test_silero(tmp_path, signal):
    """Steps that build on one another, alone and in a batch: near the original's, and equal to each other."""
    model = empty(tmp_path, FIXED + GEMM) / "model.onnx"
    model.write_bytes(MODEL.read_bytes())
    assert specialise(tmp_path).returncode == 0
    result = model.with_name("model.specialised.onnx")
    found = operators(onnx.load(result).graph)
    assert (found["Conv"], found["Gemm"]) == (0, 6)
    original, together, alone = Steps(MODEL, 16), Steps(result, 16), Steps(result, 1)
    farthest = 0
    for windows in signal(16):
        expected, got = original(windows), together(windows)
        farthest = max(farthest, np.abs(got - expected).max())
        assert alone(windows[3:4]) == pytest.approx(got[3:4], abs=1e-6)
    assert 0 < farthest < 1e-5, f"in {STEPS} steps"


def test_the_bundled_model_is_made_so():
    after = MODEL.with_name("model.specialised.onnx")
    assert after.exists(), "run `make models`"
    assert "Conv" not in operators(onnx.load(after).graph)
    assert "convolutions_as_gemm = true" in (ROOT / "models/silero_vad/model.toml").read_text()
