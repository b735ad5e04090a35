"""Makes `vad_events.jsonl`: what Silero's own logic makes of random probabilities, to compare with.

    pip install --no-deps silero-vad==6.2.3 packaging
    python tests/data/make_vad_events.py

The same bytes come out of every run. The logic needs no tensors, so a stand-in takes the place of torch.
"""

import importlib.util
import json
import random
import struct
import sys
import types
from pathlib import Path


class Chunk(list):
    """As much of a tensor as an iterator looks at."""

    def dim(self):
        return 1


class Probability(float):
    def item(self):
        return float(self)


class Model:
    """Answers what it was told to."""

    def __init__(self, probabilities):
        self.probabilities = iter(probabilities)

    def reset_states(self):
        pass

    def __call__(self, chunk, rate):
        return Probability(next(self.probabilities))


def silero():
    """The module with the logic, without the package around it, which loads torch."""
    sys.modules["torch"] = types.SimpleNamespace(
        Tensor=Chunk, device=str, no_grad=lambda: lambda function: function, is_tensor=lambda x: isinstance(x, Chunk)
    )
    package = importlib.util.find_spec("silero_vad")
    path = Path(package.submodule_search_locations[0]) / "utils_vad.py"
    spec = importlib.util.spec_from_file_location("utils_vad", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def probabilities(rng, threshold):
    """Thousandths that stay high or low for a while, and often lie on or near a threshold."""
    near = [round(1000 * threshold) + step for step in (-1, 0, 1, -149, -150, -151, -75)]
    values = []
    while len(values) < 120:
        low, high = rng.choice([(0, 300), (700, 1000), (200, 800)])
        for _ in range(rng.choice([1, 2, 3, 4, 5, 9, 14])):
            values.append(rng.choice(near) if rng.random() < 0.2 else rng.randint(low, high))
    return [min(max(value, 0), 1000) for value in values]


def single(value):
    """As a model would give it: in single precision."""
    return struct.unpack("f", struct.pack("f", value))[0]


def case(vad, rng):
    rate = rng.choice([8000, 16000, 11025])
    window = 512 if rate == 16000 else 256
    threshold = rng.choice([0.5, 0.5, 0.3, 0.65, 0.155])
    min_speech, min_silence, pad = rng.choice([(250, 100, 30), (250, 100, 30), (0, 0, 0), (100, 32, 70), (333, 64, 33)])
    thousandths = probabilities(rng, threshold)
    given = [single(value / 1000) for value in thousandths]
    length = len(given) * window - rng.randrange(window)

    events = []
    if rate != 11025:  # which the iterator refuses; padding is no whole number of samples there
        iterator = vad.VADIterator(Model(given), threshold, rate, min_silence, pad)
        events = [event for _ in given if (event := iterator(Chunk([0.0] * window)))]
    segments = vad.get_speech_timestamps_from_probs(
        given,
        sampling_rate=rate,
        threshold=threshold,
        min_speech_duration_ms=min_speech,
        min_silence_duration_ms=min_silence,
        speech_pad_ms=pad,
        audio_length_samples=length,
    )
    return {
        "rate": rate,
        "window": window,
        "threshold": threshold,
        "min_speech_ms": min_speech,
        "min_silence_ms": min_silence,
        "speech_pad_ms": pad,
        "length": length,
        "thousandths": thousandths,
        "events": [[kind, at] for event in events for kind, at in event.items()],
        "segments": [[segment["start"], segment["end"]] for segment in segments],
    }


def main():
    vad, rng = silero(), random.Random(1)
    lines = [json.dumps(case(vad, rng), separators=(",", ":")) for _ in range(48)]
    Path(__file__).with_name("vad_events.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
