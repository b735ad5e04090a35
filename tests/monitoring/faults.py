"""Servers that have a trouble, and how it is brought about."""

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
from conftest import ROOT, Server
from prometheus import free_port
from websockets.asyncio.client import connect
from wire import text_request

MODELS = ROOT / "tests/models/repository"

# What each model is asked; a number so large is a run of years for `endless`.
HARMLESS = text_request({"x": np.float32([[1, 2, 3, 4]])})
FOR_EVER = text_request({"x": np.float32([[1, 2, 3, 1e15]])})
# As many rows as a batch has, which are 1 KiB.
LARGE = text_request({"x": np.ones((64, 4), np.float32)})

SLOW = """\
max_batch_size = 64

[dynamic_batching]
max_queue_size = 20
"""
SLOTS = """\
max_batch_size = 64
sequence_batching.state = [{ input_name = "state", output_name = "state_out" }]
sequence_batching.max_candidate_sequences = 2
stream.signal = { encodings = ["f32le"], sample_rate = 1000, window = 4 }
"""


def repository(folder, **models):
    """A folder of some of the tests' models, with settings of their own."""
    for name, settings in models.items():
        (folder / name / "1").mkdir(parents=True)
        shutil.copy(MODELS / name / "1/model.onnx", folder / name / "1")
        (folder / name / "model.toml").write_text(settings)
    return folder


@contextmanager
def meanwhile(act):
    """Does something over and over until the end, in a thread; what fails is not of interest."""
    ended = threading.Event()

    def run():
        while not ended.is_set():
            with suppress(Exception):
                act()
            time.sleep(0.01)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def loop():
    """An event loop in a thread, for conversations that go on; yields what starts one."""
    events = asyncio.new_event_loop()
    thread = threading.Thread(target=events.run_forever)
    thread.start()
    try:
        yield lambda conversation: asyncio.run_coroutine_threadsafe(conversation, events)
    finally:

        async def end():
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), events).result()
        events.call_soon_threadsafe(events.stop)
        thread.join()
        events.close()


def post(address, model, request):
    url = f"http://{address}/v2/models/{model}/infer"
    with urllib.request.urlopen(urllib.request.Request(url, request.encode()), timeout=30) as response:
        return response.read()


async def keep_asking(server, model, request, at_once, **options):
    """One connection that always has so many requests waiting."""
    async with connect(server.ws(f"/v2/models/{model}/infer"), ssl=server.context, **options) as socket:
        for _ in range(at_once):
            await socket.send(request)
        async for _ in socket:
            await socket.send(request)


async def stay(server, path, **options):
    async with connect(server.ws(path), ssl=server.context, **options) as socket:
        async for _ in socket:
            pass


def run_out_of_descriptors(server):
    """For some scrapes the server may open no more than it has open, and someone knocks."""
    pid = server.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 1, before[1]))
    try:
        with socket.create_connection((server.host, server.port)):
            time.sleep(3)
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        # Prometheus may have lost its connection.
        time.sleep(1)


def stop_most_of_the_time(server):
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(0.3)
    server.process.send_signal(signal.SIGCONT)
    time.sleep(0.1)


def certificate(folder, days):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", str(days), "-subj", "/CN=localhost",
         "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
        check=True, capture_output=True,
    )


@contextmanager
def at_one_address(*repositories, flags=()):
    """Servers one after the other, always at the same address; yields that, and what kills one and starts the next."""
    address, servers = f"127.0.0.1:{free_port()}", []

    def start(*flags):
        if servers:
            servers[-1].process.kill()
            servers[-1].process.wait()
        servers.append(Server(repositories, *flags, listen=address))
        servers[-1].wait_until_ready()
        return servers[-1]

    start(*flags)
    try:
        yield address, start
    finally:
        servers[-1].process.kill()
        servers[-1].process.wait()
