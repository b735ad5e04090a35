"""Attacks on a server, each the life of one attacker, and what the server may do about it.

As a program it is a process full of attackers of one kind: `attackers.py HOST PORT LIMIT ATTACK LIVES`. It says
`ready`, begins when a line comes, and at the end of its input, or after so many lives of each attacker, it tells how
often they had which end. It takes no more than a share of a core, and less where others need it.
"""

import asyncio
import json
import os
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from socket import SO_LINGER, SO_RCVBUF, SOL_SOCKET
from typing import Callable, NamedTuple

import numpy as np
from test_long_conversation import MALFORMED, check_refusal
from test_misbehaving import (
    PATH, REQUEST, closed_with, does_not_mask, ends_text_in_a_character, misbehave, never_ends_its_fragments,
    sends_a_long_ping, starts_twice,
)
from wire import BINARY, CLOSE, PING, PONG, TEXT, answer, binary_request, client_frame, handshake

# The share of a core that all attackers of a process may take together.
SHARE = 0.5
BEGAN, HEAD_START = time.monotonic(), time.process_time()
# Who is slow sends something as often as this, in seconds.
DRIP = 0.2
# The end of an attacker whose connection broke before the server had said why, or while it had not heard it.
CUT = "cut off"


async def rest():
    """Gives back what has been taken beyond the share."""
    while time.process_time() > SHARE * (time.monotonic() - BEGAN) + HEAD_START:
        await asyncio.sleep(0.01)


class Target(NamedTuple):
    host: str
    port: int
    # Bytes that the server allows in a message.
    limit: int


class Attack(NamedTuple):
    live: Callable
    at_once: int
    # What has to be seen, and what may be.
    ends: tuple
    may: tuple = ()

    def complaints(self, got):
        """What is wrong with the ends that attackers had."""
        missing = [f"nobody got {end!r}" for end in self.ends if not got.get(end)]
        return missing + [f"{count} got {end!r}" for end, count in got.items() if end not in self.ends + self.may]


ATTACKS = {}


def attack(at_once, *ends, may=()):
    def register(live):
        ATTACKS[live.__name__] = Attack(live, at_once, ends, may)
        return live

    return register


def register_manner(how, at_once, code, may=()):
    """A manner that checks by itself how it is ended."""

    async def live(target, got):
        await misbehave(target, how)
        got[code] += 1

    ATTACKS[how.__name__] = Attack(live, at_once, (code,), may)


# It goes on writing while the server closes, and may hear of a reset first; or not get to the limit within
# `read_timeout`, if the machine is busy. More of them would not get there at all, since all go through one core.
register_manner(never_ends_its_fragments, 4, "1009", may=(CUT, "close code 1008, not 1009"))
register_manner(does_not_mask, 50, "1002")
register_manner(sends_a_long_ping, 50, "1002")
register_manner(ends_text_in_a_character, 50, "1007")
register_manner(starts_twice, 50, "1002")


async def drip(writer, piece, end):
    """Sends a piece now and then, until there is an end."""
    end = asyncio.ensure_future(end)
    try:
        while not end.done():
            writer.write(piece)
            await asyncio.wait([end], timeout=DRIP)
        return end.result()
    finally:
        end.cancel()


@attack(200, "1008", may=(CUT,))
async def claims_the_largest_message_and_sends_slowly(target, got):
    async def how(socket):
        socket.send(BINARY, claim=target.limit)
        await drip(socket.writer, bytes(1 << 10), closed_with(socket, 1008))

    await misbehave(target, how)
    got["1008"] += 1


@attack(200, "closed", may=(CUT,))
async def draws_out_its_handshake(target, got):
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        writer.write(handshake(target.host, target.port, PATH).removesuffix(b"\r\n") + b"X-Slow: ")
        said = await drip(writer, b"a", reader.read())
        got[said.decode("latin-1") or "closed"] += 1
    finally:
        writer.transport.abort()


@attack(200, "1008", may=(CUT,))
async def draws_out_its_message(target, got):
    async def how(socket):
        socket.send(BINARY, claim=len(REQUEST))
        await drip(socket.writer, REQUEST[:1], closed_with(socket, 1008))

    await misbehave(target, how)
    got["1008"] += 1


@attack(50, CUT)
async def reads_nothing(target, got):
    big = client_frame(BINARY, binary_request({"x": np.ones((64, 64), np.float32)}))

    async def how(socket):
        # What is deaf here is the client, not the kernel for it: that takes megabytes, if one lets it.
        socket.writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_RCVBUF, 4096)
        while True:
            socket.writer.write(big)
            await socket.writer.drain()
            await rest()

    await misbehave(target, how)


@attack(50, "400", "405")
async def upgrades_what_cannot_be(target, got):
    for part, by in [(b"GET", b"POST"), (b"HTTP/1.1", b"HTTP/1.0")]:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        try:
            writer.write(handshake(target.host, target.port, PATH).replace(part, by))
            head = await reader.readuntil(b"\r\n\r\n")
            got[head.split()[1].decode()] += 1
        finally:
            writer.transport.abort()


@attack(100, "left")
async def connects_and_vanishes(target, got):
    """With a reset: before it has said anything, within its handshake, behind it, and with a request under way."""
    opening = handshake(target.host, target.port, PATH)
    for said in [b"", opening[:40], opening, opening + client_frame(BINARY, REQUEST)]:
        _, writer = await asyncio.open_connection(target.host, target.port)
        writer.write(said)
        writer.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        got["left"] += 1


async def message(socket):
    """The next one, whatever pings come before it."""
    while (said := await socket.receive())[0] in (PING, PONG):
        pass
    return said


async def close(socket, got):
    socket.send(CLOSE, b"\x03\xe8")
    await closed_with(socket, 1000)
    got["1000"] += 1


@attack(30, "refused", "1000")
async def floods_with_malformed_requests(target, got):
    async def how(socket):
        for _ in range(10):
            socket.writer.write(b"".join(client_frame(BINARY, bad) for bad, *_ in MALFORMED))
            await rest()
            for _, *how in MALFORMED:
                opcode, payload = await message(socket)
                assert opcode == TEXT, f"opcode {opcode}"
                check_refusal(payload.decode(), *how)
                got["refused"] += 1
        await close(socket, got)

    await misbehave(target, how)


@attack(30, "pong", "1000")
async def floods_with_pings(target, got):
    """The protocol has no limit for them: those that come too fast are passed over."""

    async def how(socket):
        socket.writer.write(client_frame(PING, bytes(125)) * 2000)
        socket.send(CLOSE, b"\x03\xe8")
        while (said := await socket.receive())[0] != CLOSE:
            got["pong"] += said[0] == PONG
        assert said[1][:2] == b"\x03\xe8", said
        got["1000"] += 1

    await misbehave(target, how)


@attack(30, "answered", "1000", may=("queue_full",))
async def floods_another_model(target, got):
    request = client_frame(BINARY, REQUEST)

    async def how(socket):
        for _ in range(10):
            socket.writer.write(request * 100)
            await rest()
            for _ in range(100):
                opcode, payload = await message(socket)
                got["answered" if opcode == BINARY else answer(payload.decode())[0]["code"]] += 1
        await close(socket, got)

    await misbehave(target, how)


async def live(attack, target, got):
    try:
        await attack.live(target, got)
    except (ConnectionError, asyncio.IncompleteReadError):
        got[CUT] += 1
    except AssertionError as wrong:
        got[str(wrong)] += 1


async def attackers(attack, target, lives, got):
    async def one():
        left = lives
        while left != 0:
            await live(attack, target, got)
            left -= 1
            await rest()

    crowd = asyncio.gather(*(one() for _ in range(attack.at_once)))
    # At its end, input can be read.
    asyncio.get_running_loop().add_reader(0, crowd.cancel)
    with suppress(asyncio.CancelledError):
        await crowd


def main(host, port, limit, name, lives):
    os.nice(5)
    print("ready", flush=True)
    os.read(0, 1)
    got = Counter()
    asyncio.run(attackers(ATTACKS[name], Target(host, int(port), int(limit)), int(lives), got))
    print(json.dumps(got))


class Attackers:
    """That process, seen from outside."""

    @classmethod
    async def prepare(cls, server, limit, name, lives=-1):
        self = cls()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, __file__, server.host, str(server.port), str(limit), name, str(lives),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        assert await self.process.stdout.readline() == b"ready\n", "the attackers' process ended"
        return self

    def begin(self):
        self.process.stdin.write(b"!")

    def stop(self):
        self.process.stdin.close()

    async def ends(self):
        """How often they had which end."""
        try:
            got = await self.process.stdout.read()
        except asyncio.CancelledError:
            self.process.kill()
            raise
        assert await self.process.wait() == 0, "the attackers' process failed"
        return json.loads(got)


if __name__ == "__main__":
    main(*sys.argv[1:])
