"""A real server, started by a manifest's own command, variables and file, does what the rest of the manifests expect."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from agreement import Pods
from checks import BINARY, DEPLOY, ROOT
from test_agreement import IMAGES
from websockets.sync.client import connect

SECONDS = 120
FOLDERS = ["kubernetes/overlays/cpu", "kserve"]
ONNXRUNTIME = next((ROOT / "runtime").glob("libonnxruntime.so.*"), "")


def get(address, path):
    try:
        with urllib.request.urlopen(f"http://{address}{path}", timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class Container:
    """The container's process here, with what only this machine can say put in place of what only a cluster can."""

    def __init__(self, pods, folder, **variables):
        (folder / "thalweg.toml").write_text(pods.config)
        here = {"THALWEG_LISTEN": "127.0.0.1:0", "THALWEG_ONNXRUNTIME": str(ONNXRUNTIME)}
        here["THALWEG_MODEL_REPOSITORY"] = str(ROOT / "models")
        if "metrics" in pods.ports:
            here |= {"THALWEG_CONFIG": str(folder / "thalweg.toml"), "THALWEG_METRICS_LISTEN": "127.0.0.1:0"}
        self.pods, command = pods, pods.container["command"]
        self.process = subprocess.Popen(
            command, cwd=folder, env=pods.variables | here | variables | {"PATH": f"{BINARY.parent}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )

    def wait_until_ready(self):
        """Reads where it listens, what a pod's ports lead to here, and asks as the kubelet does."""
        self.at, self.log = {}, []
        for line in self.process.stdout:
            self.log.append(line)
            if found := re.match(r"(listening|metrics) on (127\.0\.0\.1:\d+)$", line):
                self.at["http" if found[1] == "listening" else "metrics"] = found[2]
            if set(self.at) == set(self.pods.ports):
                break
        deadline = time.monotonic() + SECONDS
        while self.probe("startupProbe") != 200:
            assert time.monotonic() < deadline, "it does not get ready"

    def probe(self, name):
        wanted = self.pods.container[name]["httpGet"]
        names = {port: name for name, port in self.pods.ports.items()} | {name: name for name in self.pods.ports}
        return get(self.at[names[wanted["port"]]], wanted["path"])[0]


@contextmanager
def running(pods, folder, **variables):
    container = Container(pods, folder, **variables)
    try:
        container.wait_until_ready()
        yield container
    finally:
        container.process.kill()
        container.process.wait()


@pytest.fixture(params=FOLDERS)
def pods(request, settings):
    return Pods(DEPLOY, request.param, IMAGES[request.param], settings)


PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def test_it_starts_answers_probes_and_drains(pods, tmp_path):
    with running(pods, tmp_path) as container:
        process = container.process
        assert [container.probe(name) for name in PROBES] == [200, 200, 200]
        # What SIGTERM goes to is the server, and it may open as many files as the manifest says.
        assert Path(f"/proc/{process.pid}/comm").read_text().strip() == "thalweg"
        # As many files as it may have, whatever the soft limit was that it was started with.
        soft, hard = re.search(r"Max open files +(\S+) +(\S+)", Path(f"/proc/{process.pid}/limits").read_text()).groups()
        assert soft == hard
        # With an address of their own, metrics are only there.
        where = "metrics" if "metrics" in pods.ports else "http"
        assert get(container.at[where], "/metrics")[0] == 200
        assert [get(at, "/metrics")[0] for name, at in container.at.items() if name != where] in ([404], [])
        # A stream is open, so that the end takes as long as a probe needs to see it.
        with streaming(container.at["http"]):
            process.terminate()
            while container.probe("readinessProbe") == 200:
                pass
            assert [container.probe(name) for name in PROBES] == [503, 503, 503]
        assert process.wait(SECONDS) == 0
        # Each line can be read by whatever collects logs.
        assert [json.loads(line)["level"] for line in process.stdout]


@contextmanager
def streaming(address):
    """A socket that is open until its block ends."""
    with connect(f"ws://{address}/v2/models/silero_vad/stream") as socket:
        assert json.loads(socket.recv())["type"] == "session.created"
        yield


def test_service_links_would_end_the_start(pods, tmp_path):
    """The reason of enableServiceLinks, and the process' own word that variables are looked at."""
    container = Container(pods, tmp_path, THALWEG_PORT="tcp://10.0.0.1:8080")
    said, _ = container.process.communicate(timeout=SECONDS)
    assert container.process.returncode == 1 and "THALWEG_PORT is no setting" in said


def test_a_file_with_a_misspelt_key_would_end_the_start(settings, copy, tmp_path):
    with (copy / "kubernetes/base/thalweg.toml").open("a") as file:
        file.write("ping_intervall = 15\n")
    container = Container(Pods(copy, FOLDERS[0], IMAGES[FOLDERS[0]], settings), tmp_path)
    said, _ = container.process.communicate(timeout=SECONDS)
    assert container.process.returncode == 1 and "ping_intervall" in said


@pytest.fixture
def exposition(settings, tmp_path):
    with running(Pods(DEPLOY, FOLDERS[0], IMAGES[FOLDERS[0]], settings), tmp_path) as container:
        yield get(container.at["metrics"], "/metrics")[1]


def test_what_keda_asks_for_is_exported(pods, exposition):
    """Each name, with the labels that the query takes apart. Those of targets are Prometheus' own."""
    triggers = [trigger for thing in pods.of("ScaledObject") for trigger in thing["spec"]["triggers"]]
    assert len(triggers) == 2
    for query in (trigger["metadata"]["query"] for trigger in triggers):
        names = set(re.findall(r"thalweg_\w+", query))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", query))))
        assert names and list(missing(names, grouped, exposition)) == []


def missing(names, labels, exposition):
    exported = {name: set(re.findall(r"(\w+)=", rest)) for name, rest in re.findall(r"^(\w+)(\{[^}]*\})", exposition, re.MULTILINE)}
    for name in names:
        if name not in exported:
            yield name
        elif name != "thalweg_build_info":
            yield from labels - exported[name] - {"le"}


def test_names_that_nobody_exports_are_seen(exposition):
    assert set(missing({"thalweg_queue_seconds_bucket"}, set(), exposition)) == {"thalweg_queue_seconds_bucket"}
    assert set(missing({"thalweg_streams_open"}, {"le", "model", "lane"}, exposition)) == {"lane"}
