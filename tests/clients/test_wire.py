"""The helpers themselves: what they encode, they decode."""

import json

import numpy as np
import pytest
from wire import DTYPES, answer, binary_request, frame, text_request


def sample(datatype):
    if datatype == "BYTES":
        return np.array([["", "é"], ["a\0b", "long " * 99]], object)
    return np.array([[0, 1], [1, 0]], DTYPES[datatype])


@pytest.mark.parametrize("datatype", DTYPES)
@pytest.mark.parametrize("encode", [binary_request, text_request])
def test_round_trip(datatype, encode):
    x = sample(datatype)
    head, tensors = answer(encode({"x": x}, id="7"), "inputs")
    assert head["id"] == "7"
    decoded = tensors["x"]
    assert decoded.shape == x.shape and decoded.dtype == x.dtype
    want = [e.encode() for e in x.flat] if datatype == "BYTES" and encode is binary_request else list(x.flat)
    assert list(decoded.flat) == want


def test_frames_are_little_endian_lengths():
    assert frame({"a": 1}, b"tail") == b"\x08\0\0\0" + json.dumps({"a": 1}).encode() + b"tail"


@pytest.mark.parametrize("extra", [b"", b"!"])
def test_left_over_bytes_are_noticed(extra):
    output = {"name": "y", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}}
    message = frame({"outputs": [output]}, b"\1" + extra)
    if extra:
        with pytest.raises(AssertionError, match="belong to no output"):
            answer(message)
    else:
        assert answer(message)[1]["y"].tolist() == [1]
