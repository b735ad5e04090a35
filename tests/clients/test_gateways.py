"""Sockets on which nobody speaks, through gateways that cut what is silent: pings keep them, and nothing else does.

`make gateways` takes the gateways' own time-outs and the server's own pings, which takes some minutes.
"""

import asyncio
import json
import os
from contextlib import AsyncExitStack

import numpy as np
import pytest
from conftest import REPOSITORIES, running
from gateways import DEFAULTS, before
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosedError
from wire import answer, text_request

IS_REAL = "GATEWAYS_AS_THEY_ARE" in os.environ
# How often the gateway's time-out passes while the sockets that are to live are silent.
ROUNDS = 3
INFER, STREAM = "/v2/models/add_int64/infer", "/v2/models/magika/stream?greeting=false"


@pytest.fixture(scope="module")
def pinging():
    with running(*REPOSITORIES, flags=() if IS_REAL else ("--ping-interval", "1")) as server:
        yield server


@pytest.fixture(scope="module")
def deaf():
    """A server that leaves sockets alone."""
    with running(*REPOSITORIES, flags=("--ping-interval", "0")) as server:
        yield server


async def opened(sockets, path, target):
    """A socket that has had one answer, as soon as the gateway listens."""
    while True:
        try:
            socket = await unix_connect(path, f"ws://gateway{target}", ping_interval=None, compression=None)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        await sockets.enter_async_context(socket)
        await use(socket, target)
        return socket


async def use(socket, target):
    if target == INFER:
        ones = np.ones((1, 16), np.int64)
        await socket.send(text_request({"A": ones, "B": ones}))
        _, outputs = answer(await socket.recv())
        assert (outputs["SUM"] == 2).all()
    else:
        await socket.send("<html><body>A river.</body></html>")
        assert json.loads(await socket.recv())["type"] == "result"


@pytest.mark.parametrize("gateway", DEFAULTS)
def test_pings_keep_silent_sockets(gateway, pinging, deaf, tmp_path):
    seconds = DEFAULTS[gateway] if IS_REAL else 3

    async def main(paths):
        async with AsyncExitStack() as sockets:
            living = [(await opened(sockets, paths["pinging"], target), target) for target in (INFER, STREAM)]
            # The clock is the gateway's own: without pings it ends a socket once its time-out is over.
            for _ in range(ROUNDS):
                silent = [await opened(sockets, paths["deaf"], target) for target in (INFER, STREAM)]
                for socket in silent:
                    with pytest.raises(ConnectionClosedError) as ended:
                        await socket.recv()
                    assert ended.value.rcvd is None, "the server closed it, and not the gateway"
            for socket, target in living:
                await use(socket, target)

    with before(gateway, seconds, tmp_path, pinging=pinging, deaf=deaf) as (paths, process):
        asyncio.run(asyncio.wait_for(main(paths), 60 + 10 * seconds))
        assert process.poll() is None


@pytest.mark.parametrize("gateway", DEFAULTS)
def test_pings_that_are_too_far_apart_keep_nothing(gateway, tmp_path):
    """That the sockets above live by pings: those of a server that pings too late do not."""
    with running(*REPOSITORIES, flags=("--ping-interval", "60")) as late:

        async def main(paths):
            async with AsyncExitStack() as sockets:
                socket = await opened(sockets, paths["late"], STREAM)
                with pytest.raises(ConnectionClosedError) as ended:
                    await socket.recv()
                assert ended.value.rcvd is None

        with before(gateway, 3, tmp_path, late=late) as (paths, _):
            asyncio.run(asyncio.wait_for(main(paths), 90))
