"""ONNX Runtime's own loop, on one core and without any server: what no server can beat with the same model file."""

import json
import os
import sys
import time

import numpy as np

import models


def cost(run, rows):
    """CPU time of a row, in microseconds: the least of some rounds, as others may share the core."""
    run()
    rounds = []
    for _ in range(7):
        start, count = time.process_time(), 0
        while time.process_time() - start < 0.3:
            run()
            count += 1
        rounds.append((time.process_time() - start) / count / rows)
    return min(rounds) * 1e6


def silero(rows):
    model = models.Silero()
    random = np.random.default_rng(1)
    windows = (random.standard_normal((rows, 576)) / 10).astype(np.float32)
    state = np.zeros((2, rows, 128), np.float32)
    return cost(lambda: model(windows, state), rows)


def mlp64(rows):
    model = models.Mlp64()
    x = np.random.default_rng(1).standard_normal((rows, 64)).astype(np.float32)
    return cost(lambda: model.run(x), rows)


if __name__ == "__main__":
    os.sched_setaffinity(0, {0})
    function = {"silero": silero, "mlp64": mlp64}[sys.argv[1]]
    print(json.dumps({"cpu_us": function(int(sys.argv[2]))}))
