#!/usr/bin/env python3
"""Prints when somebody speaks, while they do.

    pip install websockets
    examples/speech.py recording.wav
    arecord -q -t raw -f S16_LE -r 16000 -c 1 | examples/speech.py -
    ffmpeg -v error -i talk.mp3 -f s16le -ar 16000 -ac 1 - | examples/speech.py --fast -

A WAV file has one channel of 16 bits, at any rate. What comes through a pipe is such samples without a head.
"""

import argparse
import asyncio
import json
import sys
import time
import wave

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

# Milliseconds of sound in a message; any other number is right, too.
PIECE = 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="a WAV file, or - for raw samples (s16le) from a pipe")
    parser.add_argument("--url", default="ws://127.0.0.1:8080/v2/models/silero_vad/stream")
    parser.add_argument("--rate", type=int, default=16000, help="samples a second in a pipe (default: %(default)s)")
    parser.add_argument("--fast", action="store_true", help="send as fast as the server takes it, not in real time")
    return parser.parse_args()


def file_pieces(file):
    while piece := file.readframes(file.getframerate() * PIECE // 1000):
        yield piece


def pipe_pieces(pipe, rate):
    # As soon as there is something: to wait for whole pieces would add delay.
    while piece := pipe.read1(2 * rate * PIECE // 1000):
        yield piece


def open_source(options):
    """The rate, the pieces, and whether they have to be held back to be in time."""
    if options.source == "-":
        return options.rate, pipe_pieces(sys.stdin.buffer, options.rate), False
    file = wave.open(options.source)
    if (file.getnchannels(), file.getsampwidth()) != (1, 2):
        raise wave.Error("one channel of 16 bits is needed (sox IN.wav -c 1 -b 16 OUT.wav)")
    return file.getframerate(), file_pieces(file), not options.fast


async def send(socket, pieces, rate, in_time):
    began, sent = time.monotonic(), 0
    # Reading waits for the pipe, and must not keep results waiting.
    while piece := await asyncio.to_thread(next, pieces, b""):
        if in_time:
            await asyncio.sleep(began + sent / (2 * rate) - time.monotonic())
        await socket.send(piece)
        sent += len(piece)
    await socket.send('{"type":"close"}')


class Segments:
    """Prints a beginning, and the whole once it has ended."""

    def __init__(self):
        self.start = None

    def take(self, events):
        for event in events:
            at = event["at_ms"] / 1000
            if event["type"] == "speech_start":
                self.start = at
                print(f"{at:8.2f} s  speech", flush=True)
            elif event["type"] == "speech_end":
                print(f"{at:8.2f} s  silence, after {at - self.start:.2f} s", flush=True)


async def main(options):
    rate, pieces, in_time = open_source(options)
    segments = Segments()
    url = f"{options.url}?encoding=pcm_s16le&sample_rate={rate}&output=events&greeting=false"
    async with connect(url) as socket:
        sending = asyncio.create_task(send(socket, pieces, rate, in_time))
        try:
            # The server ends the connection once it has answered all.
            async for message in socket:
                message = json.loads(message)
                if message["type"] == "error":
                    raise RuntimeError(message["error"])
                segments.take(message.get("events", []))
        finally:
            sending.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main(arguments()))
    except KeyboardInterrupt:
        pass
    except InvalidStatus as refused:
        sys.exit(f"speech.py: {json.loads(refused.response.body)['error']}")
    except (ConnectionClosed, EOFError, OSError, RuntimeError, wave.Error) as error:
        sys.exit(f"speech.py: {error}")
