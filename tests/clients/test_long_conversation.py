"""Ten thousand requests over one socket, one in a hundred of them malformed."""

import asyncio
import json
import struct

import numpy as np
from websockets.asyncio.client import connect
from wire import answer, binary_request, describe, frame, tensor_bytes

REQUESTS = 10_000
ROW = np.zeros((1, 64), np.float32)


def tensor(**changes):
    return {**describe("x", ROW), "parameters": {"binary_data_size": ROW.nbytes}, **changes}


def shaped(array):
    return binary_request({"x": array}, id="bad")


def header(*inputs, tail=tensor_bytes(ROW), **fields):
    return frame({"id": "bad", "inputs": list(inputs), **fields}, tail)


# Malformed messages, each with the code of its answer, and whether its id can still be read.
MALFORMED = [
    (b"", "invalid_framing", False),
    (b"\1\0", "invalid_framing", False),
    (struct.pack("<I", 1 << 31) + b"{}", "invalid_framing", False),
    (shaped(ROW)[:-1], "invalid_framing", True),
    (shaped(ROW) + b"!", "invalid_framing", True),
    (frame(b"not json"), "invalid_json", False),
    (frame(b'{"id":"bad","inputs":[NaN]}'), "invalid_json", True),
    (frame(b"\xff"), "invalid_json", False),
    (frame(b'{"id":"bad","unknown":' + b"[" * 200 + b"]" * 200 + b"}"), "json_too_deep", True),
    (frame({"id": "bad"}), "invalid_request", True),
    (frame({"id": "bad", "inputs": 7}), "invalid_request", True),
    (header(tail=b""), "missing_input", True),
    (binary_request({"z": ROW}, id="bad"), "unknown_input", True),
    (binary_request({"x": ROW}, id="bad", outputs=[{"name": "z"}]), "unknown_output", True),
    (header(tensor(datatype="FP33")), "wrong_datatype", True),
    (shaped(ROW.astype(np.float64)), "wrong_datatype", True),
    (shaped(ROW[:, :63]), "wrong_shape", True),
    (shaped(ROW[0]), "wrong_shape", True),
    (header(tensor(shape=[1 << 62, 64])), "shape_overflow", True),
    (header(tensor(shape=[2, 64])), "wrong_element_count", True),
    (header({**describe("x", ROW), "data": [0.5] * 63}, tail=b""), "wrong_element_count", True),
    (header({**describe("x", ROW), "data": [1e300] * 64}, tail=b""), "value_out_of_range", True),
    (shaped(np.zeros((65, 64), np.float32)), "batch_too_large", True),
]


def is_malformed(at):
    return at % 100 == 50


def test_ten_thousand_requests_with_a_hundred_malformed(server, reference, talk):
    x = np.random.default_rng(10).standard_normal((REQUESTS, 64), np.float32)
    want = reference("mlp64")({"x": x})["y"]

    async def send(socket):
        for at in range(REQUESTS):
            bad, _, _ = MALFORMED[at // 100 % len(MALFORMED)]
            await socket.send(bad if is_malformed(at) else binary_request({"x": x[at, None]}, id=str(at)))

    async def main():
        right = refused = 0
        async with connect(server.ws("/v2/models/mlp64/infer")) as socket:
            sending = asyncio.create_task(send(socket))
            for at in range(REQUESTS):
                message = await socket.recv()
                if is_malformed(at):
                    check_refusal(message, *MALFORMED[at // 100 % len(MALFORMED)][1:])
                    refused += 1
                else:
                    head, outputs = answer(message)
                    assert head.get("id") == str(at), head
                    assert np.abs(outputs["y"] - want[at]).max() <= 1e-5
                    right += 1
            await sending
            # The connection is still of use.
            await socket.send(binary_request({"x": x[:1]}, id="last"))
            assert answer(await socket.recv())[0]["id"] == "last"
        return right, refused

    assert talk(main()) == (9900, 100)


def check_refusal(message, code, with_id):
    assert isinstance(message, str), "an error is JSON, whatever the request was"
    error = json.loads(message)
    assert error["error"] and error["code"] == code, error
    assert error["retryable"] is False
    assert error.get("id") == ("bad" if with_id else None)
