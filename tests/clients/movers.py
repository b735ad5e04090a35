"""Clients that go on elsewhere when their server ends, and know what each answer must be, so that none can be lost
and none come twice."""

import asyncio
import json
import random
import time
from collections import deque
from itertools import count

import aiohttp
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus
from wire import answer, binary_request, text_request

GOING_AWAY = 1001
# Ended without a close frame.
CUT = 1006
WINDOW = 4
INFER = "/v2/models/add_int64/infer"


class Client:
    """What all of them have in common. They go on until all is `done`; the server may also be gone `at_times`."""

    def __init__(self, seed, done, at_times=False):
        self.random = random.Random(seed)
        self.seed, self.done, self.at_times = seed, done, at_times
        self.answers = self.refused = 0
        # Close codes of its connections.
        self.ends = []
        self.longest_gap, self._last = 0.0, None

    def answered(self):
        self.answers += 1
        now = time.monotonic()
        if self._last is not None:
            self.longest_gap = max(self.longest_gap, now - self._last)
        self._last = now

    async def pause(self, seconds):
        """As long, unless all is done."""
        try:
            await asyncio.wait_for(self.done.wait(), self.random.uniform(0, 2 * seconds))
        except TimeoutError:
            pass

    async def open(self, url):
        while True:
            try:
                return await connect(url, compression=None, ping_interval=None)
            except InvalidStatus as refused:
                self.refuse(json.loads(refused.response.body)["code"])
            except (OSError, InvalidMessage):
                if not self.at_times:
                    raise
            await asyncio.sleep(0.05)

    def refuse(self, code):
        """It is to try again."""
        assert code == "shutting_down" or (self.at_times and code == "model_not_ready"), code
        self.refused += 1

    def ended(self, closed):
        code = closed.rcvd.code if closed.rcvd else CUT
        assert code != CUT or self.at_times, f"the connection ended without a close frame: {closed}"
        self.ends.append(code)
        return code


class Stream(Client):
    """Streams numbers to an accumulator. Each connection begins with the first number that has not been answered for,
    and with a sum of its own."""

    # What it does when it is told that the server is going away: it asks for the rest and closes; closes with half
    # a window on its way, which it takes along; or goes on for as long as it may.
    MANNERS = ("asks for the rest", "leaves", "stays")
    PATH = "/v2/models/accumulator/stream?greeting=false"

    def __init__(self, seed, *how):
        super().__init__(seed, *how)
        self.manner = self.MANNERS[seed % len(self.MANNERS)]
        # Numbers that have been answered for.
        self.position = 0

    def numbers(self, start, end):
        return [float((at * 37 + self.seed * 11) % 64 - 20) for at in range(start, end)]

    async def live(self, server):
        is_over = False
        while not is_over:
            async with await self.open(server.ws(self.PATH)) as socket:
                is_over = await self.converse(socket)

    async def converse(self, socket):
        """One connection to its end; says whether it was the last."""
        begin, told = self.position, asyncio.Event()
        sending = asyncio.create_task(self.send(socket, begin, told))
        sums, seq = np.zeros(WINDOW), 0
        is_flushed, was_told = False, False
        try:
            while True:
                message = json.loads(await socket.recv())
                match message["type"]:
                    case "result":
                        part = self.numbers(self.position, self.position + WINDOW)
                        if message["end_ms"] - message["start_ms"] != WINDOW:
                            # The last one, that a flush has filled.
                            length = int(message["end_ms"] - message["start_ms"])
                            part[length:] = [0.0] * (WINDOW - length)
                            self.position += length - WINDOW
                        sums += part
                        self.position += WINDOW
                        [output] = message["outputs"]
                        assert not is_flushed and message["seq"] == seq, f"{message}, and not {seq}"
                        assert output["data"] == list(sums), f"{message}, and not {sums}"
                        seq += 1
                        self.answered()
                    case "going_away":
                        assert message["time_left_ms"] > 0 and not was_told, message
                        was_told = True
                        told.set()
                    case "flushed":
                        is_flushed = True
                    case _:
                        raise AssertionError(message)
        except ConnectionClosed as closed:
            code = self.ended(closed)
        sent, said_last = await sending
        if code in (GOING_AWAY, CUT):
            # What was on its way is sent again.
            assert was_told or code == CUT
            assert self.position <= sent, f"{sent} numbers were sent, {self.position} answered"
        else:
            # What was complete has been answered: with a flush that is all, without one whole windows.
            assert is_flushed == (said_last == "close")
            assert self.position == (sent if is_flushed else sent - (sent - begin) % WINDOW)
        return is_flushed and self.done.is_set()

    async def send(self, socket, begin, told):
        """Sends pieces cut anywhere, and returns how many numbers it has sent and what it said last."""
        at, cut = begin, 0
        try:
            while not self.done.is_set() and not (told.is_set() and self.manner != "stays"):
                end = at + (cut + (size := self.random.randrange(1, 12 * WINDOW))) // 4
                piece = np.array(self.numbers(at, end + 1), "<f4").tobytes()[cut : cut + size]
                at, cut = end, (cut + size) % 4
                await socket.send(piece)
                await self.pause(0.15)
            if self.manner == "leaves" and not self.done.is_set():
                await socket.close()
                return at, "nothing"
            await socket.send('{"type":"close"}')
            return at, "close"
        except ConnectionClosed:
            return at, "nothing"


class Requests(Client):
    """Has always several requests unanswered on `/infer`, and sends those again that its connection leaves so."""

    DEPTH = 16

    def __init__(self, seed, *how):
        super().__init__(seed, *how)
        self.ids, self.unanswered = count(), deque()
        self.encode = text_request if seed % 2 else binary_request

    def request(self, id):
        a, b = (np.full((1, 16), number, np.int64) for number in (id, self.seed << 32))
        return self.encode({"A": a, "B": b}, id=str(id))

    def check(self, message):
        """That it answers the oldest request, and with its own sum."""
        head, outputs = answer(message)
        id = self.unanswered.popleft()
        assert head.get("id") == str(id), f"{head}, and not {id}"
        assert (outputs["SUM"] == (self.seed << 32) + id).all()
        self.answered()

    async def live(self, server):
        while not self.done.is_set() or self.unanswered:
            async with await self.open(server.ws(INFER)) as socket:
                room = asyncio.Semaphore(self.DEPTH)
                sending = asyncio.create_task(self.send(socket, room))
                try:
                    while True:
                        self.check(await socket.recv())
                        room.release()
                except ConnectionClosed as closed:
                    self.ended(closed)
                # It may wait for room that no answer will make.
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    async def send(self, socket, room):
        try:
            for id in list(self.unanswered):
                await room.acquire()
                await socket.send(self.request(id))
            while not self.done.is_set():
                await room.acquire()
                self.unanswered.append(next(self.ids))
                await socket.send(self.request(self.unanswered[-1]))
                if self.random.random() < 1 / self.DEPTH:
                    await self.pause(0.1)
            # The answers that are owed come before the end.
            await socket.close()
        except ConnectionClosed:
            pass


class Posts(Client):
    """Posts one request after the other over a connection that is kept."""

    async def live(self, server):
        async with aiohttp.ClientSession() as session:
            for id in count():
                if self.done.is_set():
                    return
                while not await self.post(session, server.http(INFER), id):
                    await asyncio.sleep(0.05)
                self.answered()
                await self.pause(0.1)

    async def post(self, session, url, id):
        a, b = (np.full((1, 16), number, np.int64) for number in (id, self.seed))
        async with session.post(url, data=text_request({"A": a, "B": b}, id=str(id))) as response:
            head = await response.json()
        if response.status == 503:
            self.refuse(head["code"])
            return False
        assert response.status == 200, head
        assert (head["id"], head["outputs"][0]["data"]) == (str(id), [id + self.seed] * 16)
        return True
