"""What the tests of the server take for granted about their models, checked with ONNX Runtime alone."""

import ctypes
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import helper

from make_models import DATATYPES, REPOSITORY


def load(name):
    return ort.InferenceSession(REPOSITORY / name / "1" / "model.onnx", providers=["CPUExecutionProvider"])


def rows(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize("path", sorted(REPOSITORY.glob("*/1/model.onnx")), ids=lambda path: path.parts[-3])
def test_every_model_loads(path: Path):
    assert load(path.parts[-3]).get_outputs()


@pytest.mark.parametrize("datatype", [datatype for datatype in DATATYPES if datatype != "BYTES"])
def test_identity_passes_bits_through(datatype):
    onnx = DATATYPES[datatype]
    x = np.array([[0, 1, 0], [1, 1, 0]], helper.tensor_dtype_to_np_dtype(onnx))
    given = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(x, onnx)
    [y] = load(f"identity_{datatype.lower()}").run_with_ort_values(None, {"INPUT0": given})
    assert y.data_type() == given.data_type() and y.shape() == [2, 3]
    assert ctypes.string_at(y.data_ptr(), x.nbytes) == x.tobytes()


def test_identity_passes_text_through():
    x = np.array([["", "é", "a\0b"]], object)
    assert load("identity_bytes").run(None, {"INPUT0": x})[0].tolist() == x.tolist()


def test_poison_fails_on_its_value_and_nothing_else():
    session = load("poison")
    good = rows([1, 2, 3, 4], [665, 667, -666, 0])
    assert np.array_equal(session.run(None, {"x": good})[0], good * 2)
    for at in range(8):
        bad = good.copy()
        bad.flat[at] = 666
        with pytest.raises(Exception, match="out of data bounds"):
            session.run(None, {"x": bad})
    assert np.array_equal(session.run(None, {"x": good})[0], good * 2)


def test_slow_returns_its_input():
    x = rows([1, -2, 3, 4e6])
    assert np.array_equal(load("slow").run(None, {"x": x})[0], x)


def test_endless_doubles_its_input_and_can_be_ended():
    x = rows([1, -2, 3, 4], [20_000, 0, -1, 5])
    assert np.array_equal(load("endless").run(None, {"x": x})[0], x * 2)
    options = ort.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match="terminate flag"):
        load("endless").run(None, {"x": rows([1e15, 0, 0, 0])}, options)


def test_nan_is_not_a_number_for_zero_alone():
    y = load("nan").run(None, {"x": rows([0, 1, -2, 1e30])})[0]
    assert np.isnan(y).tolist() == [[True, False, False, False]]


def test_accumulators_add():
    x = rows([1, 2, 3, 4], [5, 6, 7, 8])
    for name, state in (("accumulator", x * 10), ("accumulator_axis1", np.stack([x * 10, x * 100]))):
        y, state_out = load(name).run(None, {"x": x, "state": state})
        assert np.array_equal(y, x + state) and np.array_equal(state_out, y)


def test_a_batch_of_mlp64_agrees_with_single_runs():
    session = load("mlp64")
    x = np.random.default_rng(1).standard_normal((64, 64), np.float32)
    batch = session.run(None, {"x": x})[0]
    single = np.concatenate([session.run(None, {"x": row[None]})[0] for row in x])
    assert np.abs(batch - single).max() <= 1e-5
