"""FastAPI and uvicorn, a run for each message: what most people write first.

`PEER_EXECUTOR=1` runs the model in the loop's thread pool in place of the handler.
"""

import asyncio
import os
import sys
from itertools import count

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import wire
from models import Mlp64, Silero, Stream

app = FastAPI()
mlp64 = Mlp64()
silero = Silero()


async def directly(model, *inputs):
    return model(*inputs)


async def in_executor(model, *inputs):
    return await asyncio.get_running_loop().run_in_executor(None, model, *inputs)


run = in_executor if os.environ.get("PEER_EXECUTOR") == "1" else directly


@app.websocket("/v2/models/silero_vad/stream")
async def stream(socket: WebSocket):
    await socket.accept()
    own = Stream()
    try:
        for seq in count():
            window = own.take(await socket.receive_bytes())
            (probability,), own.state = await run(silero, window, own.state)
            await socket.send_text(wire.result(seq, probability))
    except WebSocketDisconnect:
        pass


@app.websocket("/v2/models/mlp64/infer")
async def infer(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            id, row = wire.split(await socket.receive_bytes())
            (answer,) = await run(mlp64, [row])
            await socket.send_bytes(wire.join(id, answer))
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws=os.environ.get("PEER_WEBSOCKETS", "websockets-sansio"),
        log_level="warning",
    )
