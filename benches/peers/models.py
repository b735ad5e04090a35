"""The two models, with the settings that all peers share: ONNX Runtime's CPU provider with one thread."""

import os
from pathlib import Path

import numpy as np
import onnxruntime

ROOT = Path(__file__).resolve().parents[2]
# The file as it is published. Thalweg serves its own edit of it; `PEER_SILERO=model.specialised.onnx` gives that to a peer.
SILERO = ROOT / "models/silero_vad/1" / os.environ.get("PEER_SILERO", "model.onnx")
MLP64 = ROOT / "tests/models/repository/mlp64/1/model.onnx"
CONTEXT, WINDOW = 64, 512  # samples
SR = np.array(16000, np.int64)


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Mlp64:
    def __init__(self):
        self.session = session(MLP64)

    def __call__(self, rows):
        """Rows of bytes to rows of bytes, in one run."""
        return [row.tobytes() for row in self.run(np.frombuffer(b"".join(rows), "<f4").reshape(-1, 64))]

    def run(self, rows):
        return self.session.run(None, {"x": rows})[0]


class Silero:
    def __init__(self):
        self.session = session(SILERO)
        takes_rate = any(each.name == "sr" for each in self.session.get_inputs())
        self.constants = {"sr": SR} if takes_rate else {}

    def __call__(self, windows, state):
        """Windows of a batch of streams and their states, to probabilities and next states, in one run."""
        output, state = self.session.run(None, {"input": windows, "state": state, **self.constants})
        return output[:, 0], state

    def step(self, streams):
        """The next window of each of some streams, in one run."""
        windows = np.concatenate([stream.window for stream in streams])
        state = np.concatenate([stream.state for stream in streams], axis=1)
        probabilities, state = self(windows, state)
        for at, stream in enumerate(streams):
            stream.state = state[:, at : at + 1]
        return probabilities


class Stream:
    """What is kept of a connection between its chunks: the end of the last chunk, and the model's state."""

    def __init__(self):
        self.window = np.zeros((1, CONTEXT + WINDOW), np.float32)
        self.state = np.zeros((2, 1, 128), np.float32)

    def take(self, chunk):
        """A chunk of `pcm_s16le` to the model's next input."""
        self.window[:, :CONTEXT] = self.window[:, -CONTEXT:]
        np.multiply(np.frombuffer(chunk, "<i2"), np.float32(1 / 32768), out=self.window[0, CONTEXT:])
        return self.window
