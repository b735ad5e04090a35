#!/usr/bin/env python3
"""Whether the server's memory and file descriptors stay as they are, whatever clients do: `soak.py --seconds 3600`.

Rounds of conversations, good ones and bad ones, as many in each. After a round all clients are gone, and what the server
holds then is looked at: in the last third of the rounds it may not be more than in the second.
"""

import argparse
import asyncio
import json
import os
import random
import re
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import numpy as np
from websockets.asyncio.client import connect

sys.path.append(str(Path(__file__).parent / "clients"))
from conftest import ROOT, running
from test_long_conversation import MALFORMED, check_refusal
from test_misbehaving import MANNERS, never_reads
from wire import CLOSE, RawSocket, answer, binary_request, text_request

# Conversations of a round, and how many of them go on at once.
ROUND, AT_ONCE = 120, 40
# A round that takes longer has failed.
ROUND_SECONDS = 300
# So many at least, of some 500 connections each, that a KiB lost of each connection is more than an allocator's noise
# between one third and the next.
ROUNDS = 24
# What is looked at, its unit, and what is no growth: an allocator is not exact.
HELD = [("MiB resident", 1 << 20, 1 << 20), ("file descriptors", 1, 0), ("threads", 1, 0)]

MODELS = {
    "accumulator": """\
max_batch_size = 64
sequence_batching.state = [{ input_name = "state", output_name = "state_out" }]
stream.signal = { encodings = ["f32le"], sample_rate = 1000, window = 4 }
""",
    "mlp64": "max_batch_size = 64\n",
}

# The one that never reads takes its time.
QUICK_MANNERS = [how for how in MANNERS if how is not never_reads]

# Large messages leave holes in the allocator's memory, whose number is a matter of chance.
SMALL = ("--max-message-size", "256KiB")

KINDS = []


def conversation(function):
    KINDS.append(function)
    return function


@conversation
async def streams(server, rng):
    """A signal cut anywhere, to its end or until its client vanishes."""
    numbers = [float(rng.randrange(-64, 64)) for _ in range(4 * rng.randrange(200))]
    sums = np.array(numbers).reshape(-1, 4).cumsum(axis=0).tolist()
    data = np.array(numbers, "<f4").tobytes()
    async with connect(server.ws("/v2/models/accumulator/stream?greeting=false")) as socket:

        async def send():
            at = 0
            while at < len(data):
                size = rng.randrange(1, 200)
                await socket.send(data[at : at + size])
                at += size
            await socket.send('{"type":"close"}')

        sending = asyncio.create_task(send())
        leaves_at = rng.randrange(2 * len(sums) + 1)
        for seq, want in enumerate(sums):
            if seq == leaves_at:
                return await vanish(socket, sending)
            result = json.loads(await socket.recv())
            assert (result["seq"], result["outputs"][0]["data"]) == (seq, want), result
        assert json.loads(await socket.recv())["type"] == "flushed"
        await sending


@conversation
async def sequences(server, rng):
    """Steps of a sequence, each of which knows those before it."""
    id, total, length = rng.randrange(1, 1 << 60), 0.0, rng.randrange(1, 20)
    async with connect(server.ws("/v2/models/accumulator/infer")) as socket:
        for step in range(length):
            x = float(rng.randrange(64))
            parameters = {"sequence_id": id, "sequence_start": step == 0, "sequence_end": step == length - 1}
            await socket.send(binary_request({"x": np.full((1, 4), x, np.float32)}, parameters=parameters))
            head, outputs = answer(await socket.recv())
            total += x
            assert outputs["y"][0].tolist() == [total] * 4, head


@conversation
async def requests(server, rng):
    """Small ones and large ones, many at a time, answered or not waited for."""
    encode, rows = rng.choice([text_request, binary_request]), rng.choice([1, 1, 1, 64])
    count, read = rng.randrange(1, 100), rng.choice([True, True, False])
    x = np.ones((rows, 64), np.float32)
    async with connect(server.ws("/v2/models/mlp64/infer")) as socket:

        async def send():
            for id in range(count):
                await socket.send(encode({"x": x}, id=str(id)))

        sending = asyncio.create_task(send())
        if not read:
            return await vanish(socket, sending)
        for id in range(count):
            head, outputs = answer(await socket.recv())
            assert (head["id"], outputs["y"].shape) == (str(id), x.shape), head
        await sending


@conversation
async def posts(server, rng):
    body = text_request({"x": np.ones((1, 64), np.float32)})
    async with aiohttp.ClientSession() as session:
        for _ in range(rng.randrange(1, 20)):
            model, status = rng.choice([("mlp64", 200), ("accumulator", 400), ("nobody", 404)])
            async with session.post(server.http(f"/v2/models/{model}/infer"), data=body) as response:
                await response.read()
                assert response.status == status


@conversation
async def bad_messages(server, rng):
    async with connect(server.ws("/v2/models/mlp64/infer")) as socket:
        for bad, *how in rng.sample(MALFORMED, 10):
            await socket.send(bad)
            check_refusal(await socket.recv(), *how)


@conversation
async def bad_manners(server, rng):
    socket = await RawSocket.connect(server.host, server.port, "/v2/models/mlp64/infer")
    try:
        await rng.choice(QUICK_MANNERS)(socket)
    except ConnectionError:
        # Who goes on breaking the rules may be cut off before it has read why.
        pass
    finally:
        socket.abort()


@conversation
async def visits(server, rng):
    """WebSockets that come and go: what each of them might leave behind adds up."""
    for _ in range(20):
        socket = await RawSocket.connect(server.host, server.port, "/v2/models/mlp64/infer")
        if rng.random() < 0.5:
            socket.send(CLOSE)
            await socket.until_close()
        socket.abort()


@conversation
async def half_handshakes(server, rng):
    for _ in range(10):
        _, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"GET /v2/models/mlp64/infer HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"[: rng.randrange(70)])
        await writer.drain()
        writer.transport.abort()


async def vanish(socket, sending):
    socket.transport.abort()
    await asyncio.gather(sending, return_exceptions=True)


async def converse(server, rng):
    """One round."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(kind, seed):
        async with room:
            await kind(server, random.Random(seed))

    async with asyncio.TaskGroup() as clients:
        for at in range(ROUND):
            clients.create_task(one(KINDS[at % len(KINDS)], rng.random()))


def held(server):
    """What HELD names, once no client is left."""
    while any(float(count) for count in re.findall(r"(?m)^thalweg_connections{.*} (.+)$", server.get("/metrics"))):
        time.sleep(0.01)
    proc = Path(f"/proc/{server.process.pid}")
    return server.resident(), len(os.listdir(proc / "fd")), len(os.listdir(proc / "task"))


async def soak(server, seconds, rng):
    """What is held after each round."""
    samples, start, told = [], time.monotonic(), 0
    while (passed := time.monotonic() - start) < seconds or len(samples) < ROUNDS:
        await asyncio.wait_for(converse(server, rng), ROUND_SECONDS)
        samples.append(await asyncio.to_thread(held, server))
        if passed // 60 > told:
            told = passed // 60
            print(f"{told:.0f} min: {figures(samples[-1])}", flush=True)
    return samples


def figures(sample):
    return ", ".join(f"{value / unit:.4g} {name}" for (name, unit, _), value in zip(HELD, sample))


def judge(samples):
    """Compares the last third with the middle one, and says whether nothing has grown. Of each third the least counts:
    what is not gone yet comes and goes, what is lost is always there."""
    third = len(samples) // 3
    middle, last = ([min(values) for values in zip(*part)] for part in (samples[-2 * third : -third], samples[-third:]))
    print(f"{len(samples)} rounds of {ROUND} conversations")
    for when, sample in (("the first round", samples[0]), ("the middle third", middle), ("the last third", last)):
        print(f"  {when}: {figures(sample)}")
    growing = [name for (name, _, noise), before, after in zip(HELD, middle, last) if after > before + noise]
    print(f"grows: {', '.join(growing)}" if growing else "flat")
    return not growing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"the conversations are those of --seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name, toml in MODELS.items():
            model = Path(folder) / name
            model.mkdir()
            (model / "1").symlink_to(ROOT / "tests/models/repository" / name / "1")
            (model / "model.toml").write_text(toml)
        with running(folder, flags=SMALL) as server:
            samples = asyncio.run(soak(server, options.seconds, random.Random(options.seed)))
    sys.exit(not judge(samples))


if __name__ == "__main__":
    main()
