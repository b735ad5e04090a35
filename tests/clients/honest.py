"""Real-time streams of speech whose every answer is checked: its place, its value, and how long after its chunk was
due it came. A stream costs little, so that a server can be measured with a hundred of them from one core.
"""

import asyncio
import collections
import json
import time
from functools import cache
from typing import NamedTuple

import numpy as np
from silero import ROUNDING, WINDOW, Silero
from speech import recording
from wire import BINARY, PING, PONG, TEXT, RawSocket, client_frame

PATH = "/v2/models/silero_vad/stream?greeting=false"
VOICES = 8
# A chunk each tick, in seconds; the streams have their turns spread over it.
TICK, TURNS = 0.032, 32
# For how long, in seconds, the last answers are waited for. One that comes late is charged, one that never comes is lost.
PATIENCE = 60


@cache
def voice(seed):
    """Frames of a chunk each, as often as is asked for, and the probabilities that belong to them."""
    signal = recording(seed)
    signal = signal[: len(signal) // WINDOW * WINDOW]
    frames = [client_frame(BINARY, chunk.tobytes()) for chunk in signal.reshape(-1, WINDOW)]
    # Each round begins anew, and so gives what the first gave.
    frames[-1] += client_frame(TEXT, b'{"type":"reset"}')
    return frames, Silero().probabilities(signal / np.float32(32768)).tolist()


class Stream(asyncio.Protocol):
    """One stream; `wrong` says what ended it too early."""

    @classmethod
    async def open(cls, server, seed):
        socket = await RawSocket.connect(server.host, server.port, PATH)
        self = cls()
        self.frames, self.want = voice(seed % VOICES)
        self.sent = self.answered = 0
        self.due = collections.deque()
        self.received = bytearray()
        self.latencies, self.wrong = [], None
        # Kept, as it closes its transport when it goes.
        self.socket = socket
        self.transport = socket.writer.transport
        self.transport.set_protocol(self)
        return self

    def send(self, due):
        if not self.wrong:
            self.transport.write(self.frames[self.sent % len(self.frames)])
            self.sent += 1
            self.due.append(due)

    def data_received(self, data):
        now = time.monotonic()
        self.received += data
        while len(self.received) >= 2:
            first, length, start = self.received[0], self.received[1], 2
            # No answer is so long that its length would need more.
            if length == 126:
                length, start = int.from_bytes(self.received[2:4]), 4
            end = start + length
            if len(self.received) < end:
                break
            if first == 0x80 | TEXT:
                self.hear(json.loads(self.received[start:end]), now)
            elif first == 0x80 | PING:
                self.transport.write(client_frame(PONG))
            else:
                self.fail(f"said {bytes(self.received[:end])}")
            del self.received[:end]

    def hear(self, said, now):
        at = self.answered % len(self.want)
        if said["type"] == "reset" and at == 0:
            return
        # The last digits differ where a batch is computed otherwise than a row.
        is_right = (
            said["type"] == "result" and said["seq"] == self.answered and abs(said["probability"] - self.want[at]) <= ROUNDING
        )
        if not is_right or not self.due:
            return self.fail(f"said {said} where window {self.answered} has {self.want[at]}")
        self.answered += 1
        self.latencies.append(now - self.due.popleft())

    def connection_lost(self, error):
        self.fail(f"the connection ended: {error}")

    def leave(self):
        self.transport.abort()

    def fail(self, why):
        self.wrong = self.wrong or why
        self.transport.abort()


async def open_streams(server, count):
    # Voices take their time, in which nobody would answer the pings of streams that are open.
    for seed in range(min(count, VOICES)):
        voice(seed)
    return [await Stream.open(server, seed) for seed in range(count)]


class Figures(NamedTuple):
    answers: int
    # Answers that did not come, and what streams ended of.
    lost: int
    wrong: list
    p50: float
    p99: float
    # How busy this process was, and how late it sent.
    busy: float
    late: float


async def speak(streams, until):
    """All of them in real time until the task is done, and then until all is answered."""
    turns = [streams[turn * len(streams) // TURNS : (turn + 1) * len(streams) // TURNS] for turn in range(TURNS)]
    start, used, late = time.monotonic(), time.process_time(), []
    tick = 0
    while not until.done():
        for turn, those in enumerate(turns):
            due = start + (tick + turn / TURNS) * TICK
            await asyncio.sleep(max(0, due - time.monotonic()))
            late.append(time.monotonic() - due)
            for stream in those:
                stream.send(due)
        tick += 1
    busy = (time.process_time() - used) / (time.monotonic() - start)
    deadline = time.monotonic() + PATIENCE
    while any(stream.due and not stream.wrong for stream in streams) and time.monotonic() < deadline:
        await asyncio.sleep(0.01)

    lost, latencies = 0, []
    for stream in streams:
        if stream.due:
            lost += len(stream.due)
            stream.fail("an answer did not come")
            stream.due.clear()
        latencies += stream.latencies
        stream.latencies = []
    latencies.sort()
    at = lambda values, percent: values[len(values) * percent // 100] if values else float("nan")
    return Figures(
        len(latencies), lost, [stream.wrong for stream in streams if stream.wrong], at(latencies, 50), at(latencies, 99),
        busy, at(sorted(late), 99),
    )
