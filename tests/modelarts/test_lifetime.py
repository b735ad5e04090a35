"""How a container of ModelArts lives on while nobody speaks, and how it ends: each of these has one of its own."""

import asyncio
import json
import re

import numpy as np
import pytest
from conftest import PORT, running, talk, ws
from websockets.exceptions import ConnectionClosed
from wire import PING, PONG, TEXT, RawSocket, answer, binary_request, text_request

ONE = np.zeros((1, 64), np.float32)
# As many as one connection may have.
IN_FLIGHT = 128


def test_idle_for_three_intervals(image, root):
    """Pings keep a gateway from taking the connection for dead, and afterwards it is as good as new."""
    with running(image, root, THALWEG_PING_INTERVAL="1"):
        async def main():
            socket = await RawSocket.connect("127.0.0.1", PORT, "/v2/models/mlp64/infer")
            for _ in range(3):
                assert await socket.receive() == (PING, b"")
                socket.send(PONG)
            socket.send(TEXT, text_request({"x": ONE}, id="1").encode())
            opcode, message = await socket.receive()
            assert opcode == TEXT and json.loads(message)["id"] == "1"
            socket.abort()

        talk(main())


def test_sigterm_leaves_nothing_unanswered(image, root):
    """What has come is answered, a stream is told and may leave, and all of it ends in time with 0."""

    def received(container):
        return int(re.search(r'thalweg_messages_total\{direction="received"\} (\d+)', container.get("/metrics"))[1])

    async def main(container):
        stream = await ws("/v2/models/silero_vad/stream?greeting=false").__aenter__()
        await stream.send(bytes(1024))
        assert json.loads(await stream.recv())["type"] == "result"
        async with ws("/v2/models/slow/infer") as socket:
            for id in range(IN_FLIGHT):
                await socket.send(binary_request({"x": np.zeros((1, 4), np.float32)}, id=str(id)))
            while await asyncio.to_thread(received, container) < 1 + IN_FLIGHT:
                await asyncio.sleep(0)
            container.terminate()
            while (status := await asyncio.to_thread(container.status, "/health")) == 200:
                await asyncio.sleep(0)
            assert status in (503, None)
            ids = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    ids.append(answer(await socket.recv())[0].get("id"))
        told = json.loads(await stream.recv())
        assert told["type"] == "going_away" and told["time_left_ms"] <= 60_000
        await stream.send(json.dumps({"type": "close"}))
        await stream.wait_closed()
        return ids, closed.value.rcvd.code, stream.close_code

    with running(image, root) as container:
        ids, requests_end, stream_end = talk(main(container))
        assert (requests_end, stream_end) == (1001, 1000)
        assert ids == [str(id) for id in range(IN_FLIGHT)]
        container.ended()


def test_who_stays_does_not_keep_it(image, root):
    with running(image, root, THALWEG_GRACE_PERIOD="6") as container:
        async def main():
            async with ws("/v2/models/silero_vad/stream?greeting=false") as stream:
                container.terminate()
                said = [json.loads(message)["type"] async for message in stream]
                return said, stream.close_code

        assert talk(main()) == (["going_away"], 1001)
        container.ended()
