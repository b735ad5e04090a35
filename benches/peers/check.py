"""Whether a server's answers are those of ONNX Runtime itself: a row of mlp64 over each form, and the start of a stream."""

import http.client
import json

import numpy as np
from websockets.sync.client import connect

from models import Mlp64, Silero, Stream

RANDOM = np.random.default_rng(1)


def infer(port, form):
    row = RANDOM.standard_normal((1, 64), np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64]}
    if form == "http-json":
        body = json.dumps({"id": "1", "inputs": [tensor | {"data": row[0].tolist()}]}).encode()
        answer = json.loads(_post(port, body, {"Content-Type": "application/json"}))
        outputs = answer["outputs"] if isinstance(answer, dict) else answer
        _same(np.array(outputs[0]["data"], np.float32), row)
        return
    request = {"id": "1", "inputs": [tensor | {"parameters": {"binary_data_size": 256}}]}
    if form == "http":
        request["parameters"] = {"binary_data_output": True}
    header = json.dumps(request).encode()
    if form == "http":
        headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(header))}
        answer = _post(port, header + row.tobytes(), headers)
    else:
        with connect(f"ws://127.0.0.1:{port}/v2/models/mlp64/infer", compression=None) as socket:
            socket.send(len(header).to_bytes(4, "little") + header + row.tobytes())
            answer = socket.recv()
    _same(np.frombuffer(answer[-256:], "<f4"), row)


def streams(port):
    """Two at once, which must not share their state."""
    silero = Silero()
    url = f"ws://127.0.0.1:{port}/v2/models/silero_vad/stream?greeting=false"
    with connect(url, compression=None) as first, connect(url, compression=None) as second:
        kept = [(first, Stream()), (second, Stream())]
        for seq in range(20):
            for socket, own in kept:
                chunk = RANDOM.integers(-8192, 8192, 512).astype("<i2").tobytes()
                socket.send(chunk)
                (expected,), own.state = silero(own.take(chunk), own.state)
                answer = json.loads(socket.recv())
                if answer["type"] != "result" or answer["seq"] != seq or abs(answer["probability"] - expected) > 1e-4:
                    raise ValueError(f"the stream's answer {seq} is {answer}, not {expected}")


def _post(port, body, headers):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/v2/models/mlp64/infer", body, headers)
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200:
        raise ConnectionError(f"{response.status}: {answer[:200]}")
    return answer


def _same(y, row):
    expected = Mlp64().run(row)[0]
    if not np.allclose(y, expected, rtol=0, atol=1e-5):
        raise ValueError(f"the answer is {y}, not {expected}")
