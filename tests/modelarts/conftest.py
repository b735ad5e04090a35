"""A container as ModelArts would run it, on a network of its own; `tests/modelarts/alone` sees to that."""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from image import ROOT, Image, inside, mount, stage
from websockets.asyncio.client import connect

sys.path += [str(ROOT / "tests/clients"), str(ROOT / "deploy/modelarts")]

PORT = 8080
START_SECONDS = 120
TALK_SECONDS = 120
# As long as ModelArts lets a container take; then it is killed.
STOP_SECONDS = 60
# Models for what is asked here, and those that come with the project.
MODELS = [*(ROOT / "models" / name for name in ("magika", "silero_vad")), *(ROOT / "tests/models/repository" / name for name in ("mlp64", "slow"))]


def binary():
    built = [ROOT / "target" / profile / "thalweg" for profile in ("release", "debug")]
    return Path(os.environ.get("THALWEG_BIN") or next(path for path in built if path.exists()))


@pytest.fixture(scope="session", autouse=True)
def alone():
    """The network must be one that nobody else is on. Its only interface is down at first."""
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        pytest.exit("run these tests by tests/modelarts/alone", 2)
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: up and running


@pytest.fixture(scope="session")
def image():
    return Image(stage((ROOT / "Dockerfile").read_text(), "thalweg"))


@pytest.fixture(scope="session")
def root(image, tmp_path_factory):
    folder = tmp_path_factory.mktemp("image")
    # A layer of an overlay cannot lie in another overlay, which the temporary folder may be.
    mount("-t", "tmpfs", "layers", folder)
    artefacts = {"fetch:/fetched/runtime": ROOT / "runtime", "build:/source/target/shipped/thalweg": binary()}
    root = image.build(folder, artefacts)
    # The platform puts the models there, and gives them to its user.
    for model in MODELS:
        shutil.copytree(model, inside(root, "/home/mind/model") / model.name)
    subprocess.run(["chown", "-R", "1000:100", inside(root, "/home/mind/model")], check=True)
    yield root
    subprocess.run(["umount", "--lazy", folder], check=True)


class Container:
    """One that runs. A thread reads its log, so that it can never block on writing it."""

    def __init__(self, process):
        self.process, self.log = process, []
        threading.Thread(target=lambda: self.log.extend(process.stdout), daemon=True).start()

    @property
    def pid(self):
        """Its first process, as it is numbered out here."""
        [child] = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(child)

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=10) as response:
            return response.read().decode()

    def status(self, path):
        try:
            self.get(path)
            return 200
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def wait_until_healthy(self):
        deadline = time.monotonic() + START_SECONDS
        while self.status("/health") != 200:
            assert self.process.poll() is None and time.monotonic() < deadline, "".join(self.log)
            time.sleep(0.05)

    def terminate(self):
        """As the platform does: SIGTERM to the first process, and time to end."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self):
        try:
            code = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            code = "killed"
        assert code == 0, f"{code}\n" + "".join(self.log)


def files(root):
    """What lies where its user could write, and since when. The system's folders are mounts of their own."""
    found = subprocess.run(["find", root, "-xdev", "-printf", "%T@ %p\n"], capture_output=True, text=True, check=True)
    return set(found.stdout.splitlines())


@contextmanager
def running(image, root, **envs):
    with socket.socket() as any_socket:
        assert any_socket.connect_ex(("127.0.0.1", PORT)) != 0, "another container has the port"
    before = files(root)
    container = Container(image.run(root, **envs))
    try:
        container.wait_until_healthy()
        yield container
        if container.process.poll() is None:
            container.terminate()
        container.ended()
        assert files(root) == before, "it wrote into its file system"
    finally:
        if container.process.poll() is None:
            container.kill()


def talk(conversation):
    return asyncio.run(asyncio.wait_for(conversation, TALK_SECONDS))


def ws(path, **options):
    return connect(f"ws://127.0.0.1:{PORT}{path}", max_size=None, **options)


@pytest.fixture(scope="module")
def container(image, root):
    with running(image, root) as container:
        yield container
