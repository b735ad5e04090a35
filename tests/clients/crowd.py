"""A process full of clients that stream speech for ever: `crowd.py URL HOW_MANY`.

It says `open` when all of them stream. Every second one never reads.
"""

import asyncio
import sys

from speech import pieces, recording
from websockets.asyncio.client import connect


async def stream(url, seed, streaming):
    async with connect(url) as socket:
        data = list(pieces(recording(seed % 8).tobytes(), seed))

        async def send():
            while True:
                for piece in data:
                    await socket.send(piece)

        sending = asyncio.create_task(send())
        await socket.recv()
        streaming.release()
        if seed % 2:
            async for _ in socket:
                pass
        await sending


async def main(url, count):
    streaming = asyncio.Semaphore(0)
    async with asyncio.TaskGroup() as clients:
        for seed in range(count):
            clients.create_task(stream(url, seed, streaming))
        for _ in range(count):
            await streaming.acquire()
        print("open", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
