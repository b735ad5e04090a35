"""BentoML: adaptive batching for its HTTP API; WebSockets through a FastAPI application that it mounts, which it does not batch."""

from itertools import count
from typing import Any

import bentoml
import numpy as np
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

import wire
from models import Mlp64, Silero, Stream

app = FastAPI()


@bentoml.service(
    workers=1,
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
    tracing={"excluded_urls": ["/v2"]},  # else each message of a WebSocket makes spans
)
@bentoml.asgi_app(app)
class Peer:
    def __init__(self):
        self.mlp64 = Mlp64()
        self.silero = Silero()

    @app.websocket("/v2/models/silero_vad/stream")
    async def stream(self, socket: WebSocket):
        await socket.accept()
        own = Stream()
        try:
            for seq in count():
                (probability,), own.state = self.silero(own.take(await socket.receive_bytes()), own.state)
                await socket.send_text(wire.result(seq, probability))
        except WebSocketDisconnect:
            pass

    @app.websocket("/v2/models/mlp64/infer")
    async def infer(self, socket: WebSocket):
        await socket.accept()
        try:
            while True:
                id, row = wire.split(await socket.receive_bytes())
                (answer,) = self.mlp64([row])
                await socket.send_bytes(wire.join(id, answer))
        except WebSocketDisconnect:
            pass

    @bentoml.api(
        route="/v2/models/mlp64/infer",
        batchable=True,
        max_batch_size=64,
        # As is its default: a bound that it expects to miss makes it refuse requests.
        max_latency_ms=60_000,
    )
    def infer_batched(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tensors of the requests of a batch, one for each."""
        rows = np.array([tensor["data"] for tensor in inputs], np.float32)
        return [
            {"name": "y", "datatype": "FP32", "shape": [1, 64], "data": y.tolist()} for y in self.mlp64.run(rows)
        ]
