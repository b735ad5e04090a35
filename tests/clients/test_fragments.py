"""Large answers come in fragments, small ones whole, and a library that knows nothing of it joins them."""

import asyncio

import numpy as np
from websockets.asyncio.client import connect
from wire import answer, binary_request

PATH = "/v2/models/identity_uint8/infer"
FRAME = 64 << 10


def test_large_answers_are_joined(server, talk):
    rng = np.random.default_rng(7)

    async def main():
        async with connect(server.ws(PATH), max_size=None) as socket:
            for size in (10, FRAME - 1000, FRAME, 5 * FRAME, 50 * FRAME):
                x = rng.integers(0, 256, (1, size), np.uint8)
                request = binary_request({"INPUT0": x})
                await socket.send(request)
                _, outputs = answer(await socket.recv())
                assert np.array_equal(outputs["OUTPUT0"], x)

                await socket.send(request)
                pieces = [piece async for piece in socket.recv_streaming()]
                _, outputs = answer(b"".join(pieces))
                assert np.array_equal(outputs["OUTPUT0"], x)
                *full, last = map(len, pieces)
                assert all(length == FRAME for length in full) and last <= FRAME, (full, last)
                assert len(full) >= size // FRAME

    talk(main())


def test_large_requests_may_come_in_fragments(server, talk):
    x = np.arange(300_000, dtype=np.uint8)[None]
    request = binary_request({"INPUT0": x})

    async def main():
        async with connect(server.ws(PATH), max_size=None) as socket:
            # A ping between fragments is answered while the message is incomplete.
            pong = None

            async def pieces():
                nonlocal pong
                for start in range(0, len(request), 10_000):
                    yield request[start : start + 10_000]
                    if start == 100_000:
                        pong = await socket.ping()
                        await asyncio.wait_for(pong, 30)

            await socket.send(pieces())
            _, outputs = answer(await socket.recv())
            assert np.array_equal(outputs["OUTPUT0"], x) and pong.done()

    talk(main())
