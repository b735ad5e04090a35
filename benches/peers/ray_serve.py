"""Ray Serve: a FastAPI application in a replica behind Ray's proxy, with Ray's batching for both models."""

import os
import sys
from itertools import count

import ray
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from ray import serve

import wire
from models import Mlp64, Silero, Stream

DELAY = float(os.environ.get("PEER_DELAY_MS", "0")) / 1000
app = FastAPI()


@serve.deployment(num_replicas=1, max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0})
@serve.ingress(app)
class Peer:
    def __init__(self):
        self.mlp64 = Mlp64()
        self.silero = Silero()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=DELAY)
    async def run_mlp64(self, rows):
        return self.mlp64(rows)

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=DELAY)
    async def run_silero(self, streams):
        return list(self.silero.step(streams))

    @app.websocket("/v2/models/silero_vad/stream")
    async def stream(self, socket: WebSocket):
        await socket.accept()
        own = Stream()
        try:
            for seq in count():
                own.take(await socket.receive_bytes())
                await socket.send_text(wire.result(seq, await self.run_silero(own)))
        except WebSocketDisconnect:
            pass

    @app.websocket("/v2/models/mlp64/infer")
    async def infer(self, socket: WebSocket):
        await socket.accept()
        try:
            while True:
                id, row = wire.split(await socket.receive_bytes())
                await socket.send_bytes(wire.join(id, await self.run_mlp64(row)))
        except WebSocketDisconnect:
            pass


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, logging_level="error", configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Peer.bind(), blocking=True)
