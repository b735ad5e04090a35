"""The model that is made of Silero's computes the same bits, without control flow."""

import collections
import subprocess
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import ROOT, binary, running
from onnx import external_data_helper
from silero import CONTEXT, MODEL, RATE, WINDOW, load, tensor
from speech import recording

STEPS = 1000
CONTROL_FLOW = {"If", "Loop", "Scan"}
FIXED = f"inputs = {{ sr = {{ constant = {RATE} }}, input = {{ dims = [-1, {CONTEXT + WINDOW}] }} }}\n"


@pytest.fixture(scope="module")
def specialised(tmp_path_factory):
    """Silero's model made simpler, and not to round otherwise."""
    folder = tmp_path_factory.mktemp("repository")
    model = empty(folder) / "model.onnx"
    model.write_bytes(MODEL.read_bytes())
    done = specialise(folder)
    assert (done.returncode, done.stderr) == (0, "")
    return model.with_name("model.specialised.onnx")


@pytest.fixture
def repository(tmp_path):
    """Of one model without a file."""
    empty(tmp_path)
    return tmp_path


def empty(repository, settings=FIXED):
    """Where the file of the one model has its place."""
    version = repository / "m/1"
    version.mkdir(parents=True)
    (repository / "m/model.toml").write_text(settings)
    return version


def specialise(repository):
    command = [binary(), "models", "specialise", "m", "--model-repository", repository]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def operators(graph, found=None):
    """How often each is there, in branches too."""
    found = collections.Counter() if found is None else found
    for node in graph.node:
        found[node.op_type] += 1
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                operators(inner, found)
    return found


class Steps:
    """A model alone, step by step, with the context and the state of each row."""

    def __init__(self, path, batch):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.rate = {"sr": np.array(RATE)} if "sr" in {one.name for one in self.session.get_inputs()} else {}
        self.state = np.zeros((2, batch, 128), np.float32)
        self.context = np.zeros((batch, CONTEXT), np.float32)

    def __call__(self, windows):
        rows = np.concatenate([self.context, windows], 1)
        self.context = windows[:, -CONTEXT:]
        given = {"input": rows, "state": self.state, **self.rate}
        output, self.state = self.session.run(["output", "stateN"], given)
        return output


def noise(batch):
    """Silence that becomes loud, and beyond."""
    random = np.random.default_rng(batch)
    for step in range(STEPS):
        yield random.standard_normal((batch, WINDOW), np.float32) * np.float32(step / 500)


def speech(batch):
    """Each row somewhere else in what is said again and again."""
    said = np.concatenate([recording(seed) for seed in range(1, 6)]) / np.float32(32768)
    starts = np.arange(batch)[:, None] * 5003 + np.arange(WINDOW)
    for step in range(STEPS):
        yield np.take(said, starts + step * WINDOW, mode="wrap").astype(np.float32)


@pytest.mark.parametrize("signal", [noise, speech])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_every_bit_is_the_packages(specialised, batch, signal):
    theirs = load().OnnxWrapper(str(MODEL), force_onnx_cpu=True)
    ours = Steps(specialised, batch)
    seen = set()
    for windows in signal(batch):
        expected = theirs(tensor(windows), RATE)
        got = ours(windows)
        assert got.tobytes() == np.asarray(expected).tobytes()
        assert ours.state.tobytes() == np.asarray(theirs._state).tobytes()
        seen.update(np.round(got.flat, 1).tolist())
    # Where nothing happens, nothing can differ.
    assert len(seen) >= (2 if signal is noise else 8), seen


def test_no_control_flow_is_left(specialised):
    before, after = (operators(onnx.load(path).graph) for path in (MODEL, specialised))
    assert before["If"] == 25 and not CONTROL_FLOW & set(after)
    # Its own two networks, for two rates, have become one.
    assert (before["LSTM"], before["Conv"]) == (4, 12) and (after["LSTM"], after["Conv"]) == (1, 6)
    onnx.checker.check_model(specialised, full_check=True)


def test_it_is_served():
    with running(ROOT / "models") as server:
        [line] = [line for line in server.log if "the specialised model is served" in line]
    assert "silero_vad" in line


def test_another_file_of_the_package(repository):
    """It spells the cell of the LSTM out, for CUDA, and has one `If`; it rounds otherwise than the first one."""
    model = repository / "m/1/model.onnx"
    model.write_bytes((Path(load().__file__).parent / "data/silero_vad_op18_ifless.onnx").read_bytes())
    done = specialise(repository)
    assert (done.returncode, done.stderr) == (0, "")
    result = model.with_name("model.specialised.onnx")
    before, after = (operators(onnx.load(path).graph) for path in (model, result))
    assert before["If"] == 1 and not CONTROL_FLOW & set(after)
    theirs, ours = Steps(model, 3), Steps(result, 3)
    for windows in speech(3):
        assert theirs(windows).tobytes() == ours(windows).tobytes()
        assert theirs.state.tobytes() == ours.state.tobytes()


def test_what_cannot_be_specialised(repository, specialised):
    path = repository / "m/1/model.onnx"
    with open(path, "wb") as file:
        file.truncate(2 << 30)
    done = specialise(repository)
    assert done.returncode == 1 and "models of 2 GiB and more cannot be specialised" in done.stderr

    model = onnx.load(specialised)
    external_data_helper.convert_model_to_external_data(model, location="weights", size_threshold=1024)
    onnx.save(model, path)
    done = specialise(repository)
    assert done.returncode == 1 and "in a file beside it; such models cannot be specialised" in done.stderr
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "weights"]
