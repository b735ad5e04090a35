"""Clients with bad manners delay nobody but themselves."""

import asyncio
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect
from wire import BINARY, CLOSE, PING, PONG, TEXT, RawSocket, answer, binary_request, text_request

PATH = "/v2/models/mlp64/infer"
ROW = np.ones((1, 64), np.float32)
REQUEST = binary_request({"x": ROW})


async def closed_with(socket, code):
    messages, got = await socket.until_close()
    assert got == code, f"close code {got}, not {code}"
    return messages


MANNERS = []


def manner(function):
    MANNERS.append(function)
    return function


@manner
async def claims_a_tebibyte(socket):
    socket.send(BINARY, b"first of many", claim=1 << 40)
    [message] = await closed_with(socket, 1009)
    assert message["code"] == "message_too_large"


@manner
async def never_ends_its_fragments(socket):
    async def pour():
        socket.send(BINARY, bytes(1 << 20), fin=False)
        while True:
            await socket.writer.drain()
            socket.send(0, bytes(1 << 20), fin=False)

    pouring = asyncio.create_task(pour())
    try:
        [message] = await closed_with(socket, 1009)
    finally:
        pouring.cancel()
        await asyncio.gather(pouring, return_exceptions=True)
    assert message["code"] == "message_too_large"


@manner
async def leaves_in_a_header(socket):
    socket.writer.write(b"\x82\xfe\x01")
    await socket.writer.drain()


@manner
async def leaves_in_a_frame(socket):
    socket.send(BINARY, REQUEST[: len(REQUEST) // 2], claim=len(REQUEST))
    await socket.writer.drain()


@manner
async def leaves_in_a_fragment(socket):
    socket.send(BINARY, REQUEST[:100], fin=False)
    await socket.writer.drain()


@manner
async def leaves_before_its_answers(socket):
    for _ in range(500):
        socket.send(BINARY, REQUEST)
    await socket.writer.drain()


@manner
async def never_reads(socket):
    """Asks for more than any buffer between holds, as fast as it may, and reads none of it."""
    big = binary_request({"x": np.ones((64, 64), np.float32)})
    try:
        # The server may leave it waiting for ever; what matters is that others go on meanwhile.
        async with asyncio.timeout(1):
            for _ in range(20_000):
                socket.send(BINARY, big)
                await socket.writer.drain()
    except TimeoutError:
        pass


@manner
async def does_not_mask(socket):
    socket.send(BINARY, REQUEST, masked=False)
    await closed_with(socket, 1002)


@manner
async def uses_a_reserved_opcode(socket):
    socket.send(0x3, b"what is this")
    await closed_with(socket, 1002)


@manner
async def uses_a_reserved_bit(socket):
    socket.send(BINARY, REQUEST, reserved=4)
    await closed_with(socket, 1002)


@manner
async def continues_nothing(socket):
    socket.send(0, b"and so on")
    await closed_with(socket, 1002)


@manner
async def starts_twice(socket):
    socket.send(BINARY, b"first", fin=False)
    socket.send(BINARY, b"second", fin=False)
    await closed_with(socket, 1002)


@manner
async def sends_a_long_ping(socket):
    socket.send(PING, bytes(126))
    await closed_with(socket, 1002)


@manner
async def fragments_a_ping(socket):
    socket.send(PING, b"ping", fin=False)
    await closed_with(socket, 1002)


@manner
async def closes_with_half_a_code(socket):
    socket.send(CLOSE, b"\x03")
    await closed_with(socket, 1002)


@manner
async def sends_text_that_is_not(socket):
    socket.send(TEXT, b"\xff\xfe")
    await closed_with(socket, 1007)


@manner
async def ends_text_in_a_character(socket):
    socket.send(TEXT, "{é".encode()[:-1])
    await closed_with(socket, 1007)


@manner
async def pings_a_lot(socket):
    """Not wrong as such: each ping has its pong, and work goes on."""
    for at in range(50):
        socket.send(PING, b"%d" % at)
    socket.send(BINARY, REQUEST)
    pongs = 0
    while True:
        opcode, payload = await socket.receive()
        if opcode == BINARY:
            assert "error" not in answer(payload)[0]
            break
        assert opcode == PONG
        pongs += 1
    assert pongs > 0
    socket.send(CLOSE, b"\x03\xe8")
    await closed_with(socket, 1000)


async def misbehave(server, how):
    socket = await RawSocket.connect(server.host, server.port, PATH)
    try:
        await how(socket)
    finally:
        socket.abort()


async def stops_in_its_handshake(server):
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgr".encode())
    await writer.drain()
    writer.transport.abort()


async def speaks_no_http(server):
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"\x06\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 is this HTTP?\r\n\r\n")
    reply = await reader.read()
    assert reply == b"" or reply.startswith(b"HTTP/1.1 400 "), reply
    writer.close()


async def speaks_tls(server):
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 and says no more")
    assert await reader.read() == b"\x15\x03\x01\x00\x02\x02\x28", "an alert, and the end"
    writer.close()


@pytest.mark.parametrize("how", MANNERS, ids=lambda how: how.__name__)
def test_alone(server, talk, how):
    talk(misbehave(server, how))


def test_fifty_among_good_clients(server, reference, talk):
    other = (stops_in_its_handshake, speaks_no_http, speaks_tls)
    turns = ((*MANNERS, *other) * 3)[:50]
    assert len(turns) == 50

    async def behave(seed, others_done):
        x = np.random.default_rng(seed).standard_normal((50, 1, 64), np.float32)
        want = [reference("mlp64")({"x": row})["y"] for row in x]
        encode = text_request if seed % 2 else binary_request
        rounds = 0
        async with connect(server.ws(PATH)) as socket:
            while rounds == 0 or not others_done.is_set():
                for at, row in enumerate(x):
                    await socket.send(encode({"x": row}, id=str(at)))
                for at in range(len(x)):
                    head, outputs = answer(await socket.recv())
                    assert head.get("id") == str(at), head
                    assert np.abs(outputs["y"] - want[at]).max() <= 1e-5
                rounds += 1

    async def main():
        others_done = asyncio.Event()
        async with asyncio.TaskGroup() as clients:
            for seed in range(8):
                clients.create_task(behave(seed, others_done))
            async with asyncio.TaskGroup() as bad:
                for how in turns:
                    bad.create_task(how(server) if how in other else misbehave(server, how))
            others_done.set()

    talk(main())
    assert json.loads(server.get("/v2/models/mlp64"))["name"] == "mlp64"
