"""Makes Triton's model repository of the models here: `make_repository.py FOLDER`.

Triton's states have the batch first, where Silero's has it in the middle, and its inputs are no constants: the file is
wrapped, its weights stay.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]


def wrapped(model):
    """With states of [batch, 2, 128] beside the model's own, `sr` a constant, and `input` of 576 samples."""
    graph = model.graph
    graph.node.insert(0, helper.make_node("Transpose", ["state_first"], ["state"], perm=[1, 0, 2]))
    graph.node.append(helper.make_node("Transpose", ["stateN"], ["stateN_first"], perm=[1, 0, 2]))
    graph.initializer.append(numpy_helper.from_array(np.array(16000, np.int64), "sr"))
    del graph.input[:], graph.output[:]
    tensor = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph.input.extend([tensor("input", "batch", 576), tensor("state_first", "batch", 2, 128)])
    graph.output.extend([tensor("output", "batch", 1), tensor("stateN_first", "batch", 2, 128)])
    onnx.checker.check_model(model)
    return model


if __name__ == "__main__":
    repository = Path(sys.argv[1])
    for model in ("silero_vad", "mlp64"):
        (repository / model / "1").mkdir(parents=True, exist_ok=True)
        shutil.copy(HERE / "config" / model / "config.pbtxt", repository / model)
    silero = wrapped(onnx.load(ROOT / "models/silero_vad/1/model.onnx"))
    onnx.save(silero, repository / "silero_vad/1/model.onnx")
    shutil.copy(ROOT / "tests/models/repository/mlp64/1/model.onnx", repository / "mlp64/1")
