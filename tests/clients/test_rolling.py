"""Servers that end, in order or not, while many are connected: what was asked is answered once, here or there."""

import asyncio
import re
import statistics

import numpy as np
import pytest
from balancer import balanced
from conftest import ROOT, Server
from movers import CUT, GOING_AWAY, Posts, Requests, Stream
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from wire import answer, binary_request

STREAMS, REQUESTS, POSTS = 200, 50, 10
GRACE = ("--grace-period", "6")

# A stream's answers tell which step they are; a request's, which request.
MODELS = {
    "accumulator": """\
max_batch_size = 64

[sequence_batching]
state = [{ input_name = "state", output_name = "state_out" }]

[stream.signal]
encodings = ["f32le"]
sample_rate = 1000
window = 4
""",
    "add_int64": "max_batch_size = 64\n",
    "slow": "max_batch_size = 1\n",
}


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "models"
    for name, toml in MODELS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "1").symlink_to(ROOT / "tests/models/repository" / name / "1")
        (folder / name / "model.toml").write_text(toml)
    return folder


@pytest.fixture
def start(repository):
    """Starts servers, of which none outlives the test."""
    servers = []

    def start(*options, listen="127.0.0.1:0"):
        server = Server([repository], *options, listen=listen)
        servers.append(server)
        server.wait_until_ready()
        return server

    yield start
    for server in servers:
        server.process.kill()
        server.process.wait()


def end(server):
    """Ends it in order."""
    code = server.stop()
    assert code == 0, f"the server ended with {code}:\n{server.tail()}"
    assert not server.panics, "".join(server.panics)


async def all_go_on(clients):
    """Until each of them has had another answer."""
    before = [client.answers for client in clients]
    while any(client.answers == count for client, count in zip(clients, before)):
        await asyncio.sleep(0.05)


def test_a_rolling_restart_loses_nothing(start, tmp_path, talk, capsys):
    servers = [start(*GRACE) for _ in range(2)]

    async def main(balancer):
        done = asyncio.Event()
        streams = [Stream(seed, done) for seed in range(STREAMS)]
        others = [kind(seed, done) for kind, many in ((Requests, REQUESTS), (Posts, POSTS)) for seed in range(many)]
        clients = [*streams, *others]
        await balancer.until_up(len(servers))
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.live(balancer))
            for server in servers:
                await all_go_on(clients)
                await asyncio.to_thread(end, server)
                await asyncio.to_thread(start, *GRACE, listen=server.address)
                await balancer.until_up(len(servers))
            await all_go_on(clients)
            done.set()
        return streams, others

    with balanced(servers, tmp_path) as balancer:
        streams, others = talk(main(balancer))

    # Each has lost its server at least once.
    assert all(len(client.ends) > 1 for client in [*streams, *others] if not isinstance(client, Posts))
    with capsys.disabled():
        report(streams, others)


def report(streams, others):
    connections = sum(len(stream.ends) for stream in streams)
    print(f"\n{sum(stream.answers for stream in streams)} answers to {STREAMS} streams over {connections} connections")
    for manner in Stream.MANNERS:
        gaps = [stream.longest_gap for stream in streams if stream.manner == manner]
        print(f"longest gap of a stream that {manner}: median {statistics.median(gaps):.2f} s, most {max(gaps):.2f} s")
    gap = max(client.longest_gap for client in others)
    print(f"{sum(client.answers for client in others)} answers to requests, longest gap {gap:.2f} s")
    print(f"refused, and asked again: {sum(client.refused for client in [*streams, *others])}")


def test_what_has_come_is_answered_before_the_end(start, talk):
    server, count = start(), 32

    def received():
        return int(re.search(r'thalweg_messages_total\{direction="received"\} (\d+)', server.get("/metrics"))[1])

    async def main():
        async with connect(server.ws("/v2/models/slow/infer")) as socket:
            for id in range(count):
                await socket.send(binary_request({"x": np.full((1, 4), id, np.float32)}, id=str(id)))
            while await asyncio.to_thread(received) < count:
                await asyncio.sleep(0.01)
            server.process.terminate()
            ids = []
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    ids.append(answer(await socket.recv())[0].get("id"))
            assert closed.value.rcvd.code == GOING_AWAY
            assert ids == [str(id) for id in range(count)]

    talk(main())
    end(server)


def test_a_server_that_is_killed_leaves_nothing_behind(start, talk):
    """Its clients see the end of their connections, and go on with the next one on the same port."""
    server = start()

    async def main():
        done = asyncio.Event()
        clients = [kind(seed, done, True) for kind, many in ((Stream, 50), (Requests, 20)) for seed in range(many)]
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.live(server))
            await all_go_on(clients)
            server.process.kill()
            await asyncio.to_thread(server.process.wait)
            again = await asyncio.to_thread(start, listen=server.address)
            await all_go_on(clients)
            done.set()
        assert {tuple(client.ends) for client in clients} == {(CUT, 1000)}
        return again

    end(talk(main()))
