"""Streams whose clients are killed leave their places at once, and nothing of them reaches anybody else."""

import asyncio
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, running
from silero import Silero
from speech import pieces, recording
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

STREAM = "/v2/models/silero_vad/stream?greeting=false"
CAPACITY, KILLED = 200, 100


@pytest.fixture
def small_server(tmp_path):
    """One with room for so many streams and no more."""
    model = tmp_path / "silero_vad"
    model.mkdir()
    (model / "1").symlink_to(ROOT / "models/silero_vad/1")
    toml = (ROOT / "models/silero_vad/model.toml").read_text()
    toml, count = re.subn(r"(?<=max_candidate_sequences = )\d+", str(CAPACITY), toml)
    assert count == 1
    (model / "model.toml").write_text(toml)
    with running(tmp_path) as server:
        yield server


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
                assert abs(np.float32(result["probability"]) - probability) <= 1e-6
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


def test_half_of_the_clients_are_killed(small_server, talk):
    silero = Silero()
    wanted = [silero.probabilities(recording(seed) / np.float32(32768)) for seed in range(8)]

    async def main():
        ready, done = asyncio.Semaphore(0), asyncio.Event()
        async with asyncio.TaskGroup() as survivors:
            for seed in range(CAPACITY - KILLED):
                survivors.create_task(survive(small_server, seed % 8, wanted, ready, done))
            crowd = await asyncio.create_subprocess_exec(
                sys.executable, Path(__file__).with_name("crowd.py"), small_server.ws(STREAM), str(KILLED),
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                for _ in range(CAPACITY - KILLED):
                    await ready.acquire()
                assert await crowd.stdout.readline() == b"open\n"
                assert await seat(small_server) is None, "all places are taken"
            finally:
                crowd.kill()
                await crowd.wait()

            # As many as were killed, and not one more, find a place.
            seats = []
            while len(seats) < KILLED:
                if socket := await seat(small_server):
                    seats.append(socket)
                else:
                    await asyncio.sleep(0.01)
            assert await seat(small_server) is None
            for socket in seats:
                # The state that they find is nobody's: the first window is that of a new stream.
                await socket.send(recording(0).tobytes())
            for socket in seats:
                result = json.loads(await socket.recv())
                assert result["seq"] == 0
                assert abs(np.float32(result["probability"]) - wanted[0][0]) <= 1e-6
                socket.transport.abort()
            done.set()

    talk(main())
