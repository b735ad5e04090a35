"""ONNX Runtime in Python behind a FastAPI WebSocket, a run for each message: what most people write first.

`fastapi_server.py NAME FILE PROVIDER` speaks as much of Thalweg's wire as one row of a model's only input and output.
"""

import asyncio
import json
import socket
import struct
import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from fastapi.responses import JSONResponse

NAME, FILE, PROVIDER = sys.argv[1:]
TYPES = {"tensor(float)": ("FP32", np.float32), "tensor(int64)": ("INT64", np.int64)}

onnxruntime.set_default_logger_severity(3)
session = onnxruntime.InferenceSession(FILE, providers=[PROVIDER])
if session.get_providers()[0] != PROVIDER:
    sys.exit(f"ONNX Runtime did not take {PROVIDER}")
given, told = session.get_inputs()[0], session.get_outputs()[0]
datatype, dtype = TYPES[given.type]
app = FastAPI()


def described(end):
    return {"name": end.name, "datatype": TYPES[end.type][0], "shape": [-1, *end.shape[1:]]}


@app.get("/v2/health/ready")
def ready():
    return JSONResponse({})


@app.get(f"/v2/models/{NAME}")
def metadata():
    ends = {"inputs": [described(given)], "outputs": [described(told)]}
    return {"name": NAME, "versions": ["1"], "platform": "onnx_onnxv1", **ends}


@app.websocket(f"/v2/models/{NAME}/infer")
async def infer(web: WebSocket):
    await web.accept()
    try:
        while True:
            message = await web.receive_bytes()
            (length,) = struct.unpack_from("<I", message)
            request = json.loads(message[4 : 4 + length])
            row = np.frombuffer(message, dtype, offset=4 + length).reshape(1, *given.shape[1:])
            (answer,) = session.run(None, {given.name: row})
            tensor = {"name": told.name, "datatype": "FP32", "shape": list(answer.shape)}
            tensor["parameters"] = {"binary_data_size": answer.nbytes}
            head = {"model_name": NAME, "model_version": "1", "id": request["id"], "outputs": [tensor]}
            head = json.dumps(head).encode()
            await web.send_bytes(struct.pack("<I", len(head)) + head + answer.tobytes())
    except WebSocketDisconnect:
        pass


async def main():
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(uvicorn.Config(app, log_level="warning")).serve(sockets=[listener])


asyncio.run(main())
