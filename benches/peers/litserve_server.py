"""LitServe: an API server and a worker that runs batches. It has no WebSockets, and no state that stays with a client."""

import os
import sys
from typing import Annotated

import litserve
from fastapi import Body, Response

import wire
from models import Mlp64


class Mlp64API(litserve.LitAPI):
    def setup(self, device):
        self.model = Mlp64()

    def decode_request(self, request: Annotated[bytes, Body()]):
        return wire.split_body(request)

    def batch(self, inputs):
        return inputs

    def predict(self, batch):
        ids, rows = zip(*batch)
        return list(zip(ids, self.model(rows)))

    def unbatch(self, output):
        return output

    def encode_response(self, output) -> Response:
        return Response(wire.join_body(*output), media_type="application/octet-stream")


if __name__ == "__main__":
    api = Mlp64API(
        max_batch_size=64,
        batch_timeout=float(os.environ.get("PEER_DELAY_MS", "5")) / 1000,
        api_path="/v2/models/mlp64/infer",
    )
    server = litserve.LitServer(
        api,
        accelerator="cpu",
        workers_per_device=1,
        fast_queue=os.environ.get("PEER_FAST_QUEUE", "1") == "1",
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        access_log=False,
        generate_client_file=False,
        loop="uvloop",
        http="httptools",
    )
