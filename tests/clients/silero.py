"""The silero-vad package's own code, as the reference for what the server makes of its model.

The package computes with torch, which is large, and which it needs for little on ONNX Runtime: rows are put together,
and handed on. So a stand-in on numpy takes its place, and the package's `OnnxWrapper` and `VADIterator` run as they
are, on the file that the server serves.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
from conftest import ROOT

MODEL = ROOT / "models/silero_vad/1/model.onnx"
RATE, WINDOW, CONTEXT = 16000, 512, 64

# How far a probability of the bundled model may be from the package's: it takes its sums in another order.
ROUNDING = 1e-5


class Tensor(np.ndarray):
    """As much of a tensor as the package asks for."""

    def dim(self):
        return self.ndim

    def unsqueeze(self, axis):
        return np.expand_dims(self, axis)

    def float(self):
        return self.astype(np.float32)

    def numpy(self):
        return np.asarray(self)


def tensor(array):
    return np.asarray(array, np.float32).view(Tensor)


def load():
    """`utils_vad` without the package around it, which loads more."""
    stand_in = types.SimpleNamespace(
        Tensor=Tensor,
        device=str,
        no_grad=lambda: lambda function: function,
        is_tensor=lambda value: isinstance(value, Tensor),
        zeros=lambda *shape: tensor(np.zeros(shape[0] if isinstance(shape[0], tuple) else shape)),
        cat=lambda parts, dim: tensor(np.concatenate(parts, axis=dim)),
        from_numpy=tensor,
    )
    [folder] = importlib.util.find_spec("silero_vad").submodule_search_locations
    spec = importlib.util.spec_from_file_location("utils_vad", Path(folder) / "utils_vad.py")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("torch")
    sys.modules["torch"] = stand_in
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["torch"]
        else:
            sys.modules["torch"] = before
    return module


class Told:
    """Gives an iterator the probabilities that it would compute."""

    def __init__(self, probabilities):
        self.probabilities = iter(probabilities)

    def reset_states(self):
        pass

    def __call__(self, chunk, rate):
        return next(self.probabilities)


class Silero:
    def __init__(self):
        self.module = load()
        self.model = self.module.OnnxWrapper(str(MODEL), force_onnx_cpu=True)

    def probabilities(self, signal, silence=0):
        """One for each window; silence stands before the first, and fills the last."""
        self.model.reset_states()
        if silence:
            # The wrapper begins with a context of zeros, unless it has begun.
            self.model._context = tensor(np.full((1, CONTEXT), silence))
            self.model._last_batch_size = 1
        signal = np.pad(signal, (0, -len(signal) % WINDOW), constant_values=silence)
        windows = signal.reshape(-1, WINDOW)
        return np.array([self.model(tensor(window), RATE).item() for window in windows], np.float32)

    def events(self, probabilities):
        """What the iterator says at each window: `{}`, or `{"start": sample}`, or `{"end": sample}`."""
        iterator = self.module.VADIterator(Told(probabilities), sampling_rate=RATE)
        return [iterator(tensor(np.zeros(WINDOW))) or {} for _ in probabilities]

    def batches_alike(self):
        """Whether ONNX Runtime rounds a row the same in a batch as alone, on this machine."""
        rng = np.random.default_rng(1)
        rows = rng.standard_normal((64, CONTEXT + WINDOW), np.float32) / 8
        state = rng.standard_normal((2, 64, 128), np.float32) / 4
        run = lambda at: self.model.session.run(
            None, {"input": rows[at], "state": np.ascontiguousarray(state[:, at]), "sr": np.array(RATE)}
        )
        alone = [run(slice(at, at + 1)) for at in range(64)]
        alone = [np.concatenate([row[0] for row in alone]), np.concatenate([row[1] for row in alone], 1)]
        for size in range(2, 65):
            probability, after = run(slice(size))
            if (probability != alone[0][:size]).any() or (after != alone[1][:, :size]).any():
                return False
        return True
