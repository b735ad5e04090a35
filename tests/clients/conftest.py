"""One real server for all tests, and what they need to know about it."""

import asyncio
import collections
import os
import queue
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import onnxruntime
import pytest

ROOT = Path(__file__).parents[2]
REPOSITORIES = [ROOT / "tests/models/repository", ROOT / "models"]

# How long a server may take to start or to end, and a test's conversation to finish: generous, since
# running into them is a failure and costs nothing otherwise.
START_SECONDS = 120
STOP_SECONDS = 30
TALK_SECONDS = 90


def binary():
    if given := os.environ.get("THALWEG_BIN"):
        return Path(given)
    built = [ROOT / "target" / profile / "thalweg" for profile in ("release", "debug")]
    return next((path for path in built if path.exists()), built[0])


class Server:
    """A running `thalweg serve`, with TLS if there is a context. A thread reads its log, so that it can never block on writing it."""

    def __init__(self, repositories, *options, listen="127.0.0.1:0", context=None, log_format="text", core=None):
        self.context = context
        bound = ["taskset", "--cpu-list", str(core)] if core is not None else []
        command = [*bound, binary(), "serve", "--listen", listen, "--log-format", log_format, *options]
        for repository in repositories:
            command += ["--model-repository", repository]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace",
        )
        self.log = collections.deque(maxlen=200)
        self.panics = []
        self._address = queue.Queue()
        self.reader = threading.Thread(target=self._read_log, daemon=True)
        self.reader.start()
        address = self._address.get(timeout=START_SECONDS)
        assert address, f"the server ended before it listened:\n{self.tail()}"
        self.host, self.port = address

    def _read_log(self):
        for line in self.process.stdout:
            self.log.append(line)
            if "panicked at" in line:
                self.panics.append(line)
            if found := re.search(r"listening on (127\.0\.0\.1):(\d+)", line):
                self._address.put((found[1], int(found[2])))
        self._address.put(None)

    def tail(self):
        return "".join(self.log)

    def wait_for(self, text):
        """Until its log says so: a thread of its own writes it, and another reads it here."""
        deadline = time.monotonic() + START_SECONDS
        while text not in self.tail():
            assert time.monotonic() < deadline, f"the log does not say '{text}':\n{self.tail()}"
            time.sleep(0.05)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    def http(self, path):
        return f"http{'s' if self.context else ''}://{self.address}{path}"

    def ws(self, path):
        return f"ws{'s' if self.context else ''}://{self.address}{path}"

    def get(self, path):
        with urllib.request.urlopen(self.http(path), timeout=10, context=self.context) as response:
            return response.read().decode()

    def is_ready(self):
        try:
            return bool(self.get("/v2/health/ready"))
        except urllib.error.HTTPError as error:
            assert error.code == 503, f"readiness answers {error.code}"
        except OSError as error:
            # It listens until it ends.
            raise AssertionError(f"the server ended before it was ready ({error}):\n{self.tail()}") from None
        return False

    def wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while not self.is_ready():
            assert time.monotonic() < deadline, f"the server did not get ready:\n{self.tail()}"
            time.sleep(0.05)

    def batches(self, model):
        """How many batches of the model have run, and how many of them had one row."""
        runs = single = 0
        for line in self.get("/metrics").splitlines():
            if line.startswith("thalweg_batch_size_") and f'model="{model}"' in line:
                value = float(line.rsplit(" ", 1)[1])
                if line.startswith("thalweg_batch_size_count"):
                    runs += value
                elif 'le="1"' in line:
                    single += value
        return runs, single

    def resident(self):
        """Bytes of memory that it holds."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def stop(self):
        self.process.terminate()
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return "killed"


@contextmanager
def running(*repositories, flags=(), **options):
    """A server that has to end well."""
    server = Server(repositories, *flags, **options)
    try:
        server.wait_until_ready()
        yield server
    finally:
        code = server.stop()
    assert code == 0, f"the server ended with {code}:\n{server.tail()}"
    assert not server.panics, "".join(server.panics)


@pytest.fixture(scope="session")
def server():
    with running(*REPOSITORIES) as server:
        yield server


@pytest.fixture(scope="session")
def reference():
    """The same model run by ONNX Runtime in this process, as `reference(model)(inputs)`."""

    @cache
    def load(model):
        [path] = [path for root in REPOSITORIES for path in root.glob(f"{model}/1/model.onnx")]
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return lambda inputs: dict(zip(names, session.run(None, inputs)))

    return load


@pytest.fixture
def talk():
    """Runs a conversation to its end, or fails."""

    def run(conversation):
        return asyncio.run(asyncio.wait_for(conversation, TALK_SECONDS))

    return run
