"""mosec: HTTP and batching in Rust, the model in a Python worker. It has no WebSockets, and no state that stays with a client."""

import os

from mosec import Server, Worker

import wire
from models import Mlp64


class Mlp64Worker(Worker):
    resp_mime_type = "application/octet-stream"

    def __init__(self):
        super().__init__()
        self.model = Mlp64()

    def deserialize(self, data):
        return wire.split_body(data)

    def forward(self, data):
        ids, rows = zip(*data)
        return list(zip(ids, self.model(rows)))

    def serialize(self, data):
        return wire.join_body(*data)


if __name__ == "__main__":
    server = Server()
    server.append_worker(
        Mlp64Worker,
        max_batch_size=64,
        max_wait_time=int(os.environ.get("PEER_DELAY_MS", "1")),
        route="/v2/models/mlp64/infer",
    )
    server.run()
