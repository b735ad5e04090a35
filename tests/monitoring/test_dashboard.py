"""What the dashboard, the rules and every file under `deploy` ask for is there, in a server to which everything has happened."""

import json
import re
import socket
import ssl
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from conftest import ROOT, Server, binary
from faults import SLOTS, certificate, keep_asking, loop, meanwhile, repository, stay
from prometheus import DEPLOY, prometheus, promtool, until
from wire import text_request

DASHBOARD = json.loads((DEPLOY / "grafana/dashboards/thalweg.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

# Metrics are what has such a name and is no part of another, as the names of recorded series are.
METRIC = re.compile(r"(?<![\w:/.-])(?:thalweg|process)_[a-z0-9_]+(?![\w:/.-])")


def metrics_in(text):
    return set(METRIC.findall(text))


def asked_for():
    """The metrics that a file under `deploy` names, by file."""
    texts = {}
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file():
            with suppress(UnicodeDecodeError):
                texts[str(path.relative_to(DEPLOY))] = path.read_text()
    return {name: found for name, text in texts.items() if (found := metrics_in(text))}


class Busy:
    """A server with TLS and keys, whose metrics are at an address of their own."""

    def __init__(self, server, key, metrics):
        self.server, self.key, self.metrics = server, key, metrics
        self.host, self.port = server.host, server.port

    def exposition(self):
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=10) as response:
            return response.read().decode()

    def ask(self, path, key=None, body=None):
        """The status of the answer."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        request = urllib.request.Request(self.server.http(path), body, headers)
        try:
            with urllib.request.urlopen(request, timeout=10, context=self.server.context) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("busy")
    models = repository(folder / "models", mlp64="max_batch_size = 64\n", accumulator=SLOTS, poison="")
    certificate(folder, days=300)
    made = subprocess.run([binary(), "keys", "new", "a-client"], check=True, capture_output=True, text=True)
    (folder / "access.toml").write_text(made.stdout)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    server = Server(
        [models], "--tls-certificate", folder / "tls.crt", "--tls-key", folder / "tls.key", "--access-file",
        folder / "access.toml", "--metrics-listen", "127.0.0.1:0", "--read-timeout", "1",
        # Nobody is there: the spans are dropped, and counted.
        "--otlp-endpoint", "http://127.0.0.1:9", context=context,
    )
    try:
        metrics = until(server.tail, lambda: re.search(r"metrics on (\S+)", server.tail()))[1]
        until(server.tail, lambda: " ready " in server.tail())
        yield Busy(server, made.stderr.strip().rsplit(" ", 1)[1], metrics)
    finally:
        assert server.stop() == 0
    assert not server.panics


@contextmanager
def load(busy):
    """All that clients do, good and bad, over and over."""
    headers = {"Authorization": f"Bearer {busy.key}"}

    def misbehave():
        busy.ask("/v2/models/mlp64/infer")
        busy.ask("/v2/models/none/infer", busy.key, b"{}")
        busy.ask("/v2/models/mlp64/infer", busy.key, b"{}")
        busy.ask("/v2/models/poison/infer", busy.key, text_request({"x": np.float32([[666, 2, 3, 4]])}).encode())
        # Plain HTTP, where TLS is spoken; and a message that never comes whole.
        with socket.create_connection((busy.host, busy.port)) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            plain.recv(1000)
        with connected(busy, "/v2/models/mlp64/infer", headers) as slow:
            slow.sendall(b"\x81\xfe")
            slow.settimeout(5)
            while slow.recv(1000):
                pass

    question = text_request({"x": np.ones((1, 64), np.float32)})
    with loop() as begin, meanwhile(misbehave):
        for path in ("/v2/models/accumulator/stream", "/v2/models/mlp64/infer"):
            begin(stay(busy.server, path, additional_headers=headers))
        for _ in range(3):
            begin(keep_asking(busy.server, "mlp64", question, 4, additional_headers=headers))
        yield


def connected(busy, path, headers):
    """A WebSocket without manners."""
    raw = socket.create_connection((busy.host, busy.port))
    secure = busy.server.context.wrap_socket(raw)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    secure.sendall(
        f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n".encode()
    )
    return secure


@pytest.fixture(scope="module")
def watched(busy, tmp_path_factory):
    """Prometheus, and a server that it has watched for a while under load."""
    with prometheus(tmp_path_factory.mktemp("prometheus")) as watcher, load(busy):
        watcher.watch(busy.metrics)
        # The rarest of all that happens, twice, so that there is a rate; and the last that is recorded.
        rare = "rate(thalweg_connections_given_up_total[10s]) > 0 and on () job_model:thalweg_request_slowness:ratio_rate6h >= 0"
        until("nothing is given up", lambda: watcher.query(rare))
        yield watcher


def told_by_readme():
    readme = (ROOT / "README.md").read_text()
    return set(re.findall(r"^\| `((?:thalweg|process)_\w+)` \|", readme, re.MULTILINE))


def is_of_gpus(name):
    return name.startswith("thalweg_gpu_")


def exported(exposition):
    """Names of series: those of histograms end in what Prometheus makes of them."""
    return {line.split("{")[0].split(" ")[0] for line in exposition.splitlines() if line and line[0] != "#"}


@pytest.fixture(scope="module")
def names(watched, busy):
    """All series' names; those of GPUs, which are not here, as README.md tells them."""
    gpus = {name for name in told_by_readme() if is_of_gpus(name)}
    histograms = {"thalweg_gpu_stage_duration_seconds"}
    made = {name + end for name in gpus & histograms for end in ("_bucket", "_sum", "_count")}
    return exported(busy.exposition()) | gpus - histograms | made


@pytest.mark.parametrize("file", asked_for())
def test_every_metric_that_is_asked_for_exists(file, names):
    assert asked_for()[file] <= names


def test_a_name_that_is_misspelt_would_be_seen():
    assert metrics_in('rate(thalweg_request_total{a="b"}[5m])/job:thalweg_x:y') == {"thalweg_request_total"}


def test_everything_has_happened(names):
    """Nothing that a server can export is missing here: else a file might ask for it and be refused."""
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in names} == told_by_readme()


def test_promtool_has_nothing_against_the_exposition(names, busy):
    exposition = busy.exposition()
    assert promtool("check", "metrics", input=exposition) == ""
    helped = set(re.findall(r"^# HELP (\w+) \S", exposition, re.MULTILINE))
    assert helped == set(re.findall(r"^# TYPE (\w+) ", exposition, re.MULTILINE))


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_shows_something(panel, watched):
    assert panel["targets"] and panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        query = target["expr"].replace("$__rate_interval", "10s")
        query = re.sub(r"\$\w+", ".*", query)
        found = watched.query(query)
        if not any(map(is_of_gpus, metrics_in(query))):
            assert any(value == value for _, value in found), f"{query} finds no number, but {found}"
            legends = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            assert all(legends <= set(labels) for labels, _ in found), f"{query} has no {legends}"


def test_variables_find_values(watched):
    queries = [variable["query"]["query"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    assert len(queries) == 3
    for query in queries:
        series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", query).groups()
        assert watched.ask(f"label/{label}/values", **{"match[]": series.replace("$job", ".*")}), query


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_grafana_is_provisioned_with_what_is_there():
    provider = (DEPLOY / "grafana/provisioning/dashboards/thalweg.yml").read_text()
    assert "path: /var/lib/grafana/dashboards\n" in provider
    datasource = (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text()
    interval = re.search(r"scrape_interval: (\w+)", (DEPLOY / "prometheus/prometheus.yml").read_text())[1]
    assert f"timeInterval: {interval}\n" in datasource
