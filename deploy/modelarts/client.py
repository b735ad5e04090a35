#!/usr/bin/env python3
"""Asks a service over WebSocket, and prints what it answers: `client.py wss://… MESSAGE…`, or files with --file.

What proves who asks is in the environment: HW_AUTH_TOKEN, HW_APP_CODE, HW_API_KEY, or HW_ACCESS_KEY and HW_SECRET_KEY
(for app authentication these are the AppKey and the AppSecret). Without any of them nothing is proved. It needs
`pip install websockets`.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from huawei import sign, variables
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


def credentials(url):
    if token := os.environ.get("HW_AUTH_TOKEN"):
        return {"X-Auth-Token": token}
    if code := os.environ.get("HW_APP_CODE"):
        return {"X-Apig-AppCode": code}
    if key := os.environ.get("HW_API_KEY"):
        return {"Authorization": f"Bearer {key}"}
    if keys := variables("HW_ACCESS_KEY", "HW_SECRET_KEY"):
        headers = sign("GET", url, {}, b"", *keys)
        # The library sets the same one.
        del headers["Host"]
        return headers
    return {}


async def ask(url, messages):
    # Handshakes are signed one by one, and their signatures last for 15 minutes: who reconnects has to sign again.
    async with connect(url, additional_headers=credentials(url), max_size=None) as socket:
        for message in messages:
            await socket.send(message)
            print(await socket.recv(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the service's address with a path behind it, such as wss://…/v1/infers/ID/?greeting=false")
    parser.add_argument("messages", nargs="*", help="sent as text")
    parser.add_argument("--file", action="append", default=[], type=Path, help="sent as a binary message")
    options = parser.parse_args()
    messages = [*options.messages, *(path.read_bytes() for path in options.file)]
    try:
        asyncio.run(ask(options.url, messages))
    except InvalidStatus as refused:
        sys.exit(f"{refused}: {refused.response.body.decode(errors='replace')}")
    except (ConnectionClosed, OSError) as error:
        sys.exit(f"client: {error}")


if __name__ == "__main__":
    main()
