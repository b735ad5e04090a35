"""Streams where there is hardly room for them: none loses anything, and whoever vanishes makes room at once."""

import asyncio
import json
import os
import re
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, running
from silero import ROUNDING, Silero
from speech import pieces, recording
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

STREAM = "/v2/models/silero_vad/stream?greeting=false"
CAPACITY, KILLED = 200, 100


@pytest.fixture
def serve(tmp_path):
    """Serves silero_vad with lines of its configuration replaced."""

    @contextmanager
    def serve(core=None, **settings):
        toml = (ROOT / "models/silero_vad/model.toml").read_text()
        for name, value in settings.items():
            toml, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", toml)
            if not count:
                toml += f"\n[dynamic_batching]\n{name} = {value}\n"
        model = tmp_path / "silero_vad"
        model.mkdir()
        (model / "1").symlink_to(ROOT / "models/silero_vad/1")
        (model / "model.toml").write_text(toml)
        with running(tmp_path, core=core) as server:
            yield server

    return serve


async def survive(server, seed, wanted, ready, done):
    """Streams one recording after the other until all is done; each has to come back whole."""
    data, want = recording(seed).tobytes(), wanted[seed]
    rounds = 0
    async with connect(server.ws(STREAM)) as socket:
        while rounds < 2 or not done.is_set():
            messages = [*pieces(data, rounds), '{"type":"flush"}', '{"type":"reset"}']

            async def send():
                for message in messages:
                    await socket.send(message)

            sending = asyncio.create_task(send())
            for at, probability in enumerate(want):
                result = json.loads(await socket.recv())
                assert result["type"] == "result", result
                assert (result["seq"], result["start_ms"]) == (rounds * len(want) + at, at * 32)
                assert abs(np.float32(result["probability"]) - probability) <= ROUNDING
            for kind in ("flushed", "reset"):
                assert json.loads(await socket.recv())["type"] == kind
            await sending
            rounds += 1
            if rounds == 1:
                ready.release()


async def seat(server):
    """A socket, or nothing if there is no place."""
    try:
        return await connect(server.ws(STREAM))
    except InvalidStatus as refused:
        response = refused.response
        assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0
        error = json.loads(response.body)
        assert (error["code"], error["retryable"]) == ("streams_full", True)


@pytest.fixture(scope="module")
def wanted():
    silero = Silero()
    return [silero.probabilities(recording(seed) / np.float32(32768)) for seed in range(8)]


def test_a_step_always_has_a_place_in_the_queue(serve, talk, wanted):
    """A stream that lost a window would lose its state's thread."""

    async def main(server):
        ready, done = asyncio.Semaphore(0), asyncio.Event()
        done.set()
        await asyncio.gather(*(survive(server, seed % 8, wanted, ready, done) for seed in range(64)))

    with serve(max_queue_size=1) as server:
        talk(main(server))


def test_a_model_may_fill_the_only_core(serve, talk, wanted):
    """Where nothing else can run, sockets wait for runs to end: all of them are heard all the same."""

    async def main(server):
        ready, done = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as streams:
            for seed in range(32):
                streams.create_task(survive(server, seed % 8, wanted, ready, done))
            for _ in range(20):
                assert await asyncio.to_thread(server.is_ready)
            done.set()

    with serve(core=min(os.sched_getaffinity(0))) as server:
        talk(main(server))


def test_half_of_the_clients_are_killed(serve, talk, wanted):
    async def main(server):
        ready, done = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as survivors:
            for seed in range(CAPACITY - KILLED):
                survivors.create_task(survive(server, seed % 8, wanted, ready, done))
            crowd = await asyncio.create_subprocess_exec(
                sys.executable, Path(__file__).with_name("crowd.py"), server.ws(STREAM), str(KILLED),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                for _ in range(CAPACITY - KILLED):
                    await ready.acquire()
                assert await crowd.stdout.readline() == b"open\n"
                assert await seat(server) is None, "all places are taken"
            finally:
                crowd.kill()
                await crowd.wait()

            # As many as were killed, and not one more, find a place.
            seats = []
            while len(seats) < KILLED:
                if socket := await seat(server):
                    seats.append(socket)
                else:
                    await asyncio.sleep(0.01)
            assert await seat(server) is None
            for socket in seats:
                # The state that they find is nobody's: the first window is that of a new stream.
                await socket.send(recording(0).tobytes())
            for socket in seats:
                result = json.loads(await socket.recv())
                assert result["seq"] == 0
                assert abs(np.float32(result["probability"]) - wanted[0][0]) <= ROUNDING
                socket.transport.abort()
            done.set()

    with serve(max_candidate_sequences=CAPACITY) as server:
        talk(main(server))
