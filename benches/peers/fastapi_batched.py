"""FastAPI and uvicorn, with the small batcher that a good engineer would add: what waits is run together."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import wire
from models import Mlp64, Silero, Stream

MOST = 64  # rows of a batch
DELAY = float(os.environ.get("PEER_DELAY_MS", "0")) / 1000
IN_EXECUTOR = os.environ.get("PEER_EXECUTOR", "1") == "1"


class Batcher:
    """Calls a function with a list of what has come since the last call, and hands each caller its own of the results."""

    def __init__(self, function):
        self.function = function
        self.executor = ThreadPoolExecutor(1)
        self.waiting = []
        self.task = None

    def __call__(self, item):
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        self.waiting.append((item, future))
        if self.task is None:
            self.task = loop.create_task(self.work())
        return future

    async def work(self):
        loop = asyncio.get_running_loop()
        while self.waiting:
            # At least one turn of the loop, in which other sockets are read.
            await asyncio.sleep(DELAY if len(self.waiting) < MOST else 0)
            batch, self.waiting = self.waiting[:MOST], self.waiting[MOST:]
            items = [item for item, _ in batch]
            try:
                if IN_EXECUTOR:
                    results = await loop.run_in_executor(self.executor, self.function, items)
                else:
                    results = self.function(items)
            except Exception as error:
                results = [error] * len(batch)
            for (_, future), result in zip(batch, results):
                if future.done():  # Its connection is gone.
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        self.task = None


app = FastAPI()
run_mlp64 = Batcher(Mlp64())
run_silero = Batcher(Silero().step)


@app.websocket("/v2/models/silero_vad/stream")
async def stream(socket: WebSocket):
    await socket.accept()
    own = Stream()
    try:
        for seq in count():
            own.take(await socket.receive_bytes())
            await socket.send_text(wire.result(seq, await run_silero(own)))
    except WebSocketDisconnect:
        pass


@app.websocket("/v2/models/mlp64/infer")
async def infer(socket: WebSocket):
    await socket.accept()
    try:
        while True:
            id, row = wire.split(await socket.receive_bytes())
            await socket.send_bytes(wire.join(id, await run_mlp64(row)))
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
