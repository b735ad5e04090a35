"""`thalweg bench` against a real server: a stall on purpose, and the page of its results in Chromium."""

import json
import re
import signal
import subprocess
import time
import urllib.request

from conftest import ROOT, TALK_SECONDS, binary
from test_browser import FLAGS

# Of a stall so long, an open loop charges each request that was due in it.
STALL_SECONDS = 0.5


def bench(server, *options):
    url = f"ws://{server.host}:{server.port}"
    command = [binary(), "bench", url, "--model", "mlp64", "--quiet", "--allow-errors", "--json", "-", *options]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def result(process):
    out, _ = process.communicate(timeout=TALK_SECONDS)
    assert process.returncode == 0
    return json.loads(out)


def served(server):
    """How many requests of the model have been answered."""
    with urllib.request.urlopen(f"http://{server.host}:{server.port}/metrics", timeout=TALK_SECONDS) as metrics:
        text = metrics.read().decode()
    found = re.findall(r'thalweg_requests_total\{model="mlp64",.*outcome="success".*\} (\d+)', text)
    return sum(map(int, found))


def test_a_stall_is_in_the_tail_of_an_open_loop(server):
    """The server's process is stopped, and goes on half a second later, some time in a step of four seconds."""
    before = served(server)
    process = bench(server, "--rate", "200", "-c", "4", "-t", "4s", "--warm-up", "0", "--drain", "60s")
    while served(server) < before + 100:
        assert process.poll() is None
    server.process.send_signal(signal.SIGSTOP)
    time.sleep(STALL_SECONDS)
    server.process.send_signal(signal.SIGCONT)
    [step] = result(process)["steps"]
    assert step["requests"]["succeeded"] == step["requests"]["scheduled"] == 800, step["example"]
    # A hundred of the 800 were due in it; what is due at its beginning waits for all of it.
    assert step["latency_ms"]["p99.9"] > 0.95 * STALL_SECONDS * 1000
    assert step["latency_ms"]["p90"] > 0.1 * STALL_SECONDS * 1000


def test_the_page_opens_in_a_browser(server, tmp_path):
    page = tmp_path / "page.html"
    result(bench(server, "-c", "1,2", "-t", "2s", "--warm-up", "0", "--html", page))
    browser = subprocess.check_output([ROOT / "tests/find_browser"], text=True).strip()
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TALK_SECONDS)
    assert "<h1>mlp64 at " in done.stdout, done.stderr
    # Two over all steps; answers, latencies, batches, times and cores of each.
    assert len(re.findall("<svg ", done.stdout)) == 2 + 2 * 5
    assert not re.search(r"NaN|inf\b", done.stdout)
    image = tmp_path / "page.png"
    flags = [flag for flag in FLAGS if flag != "--dump-dom"]
    command = [browser, *flags, f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={image}", page.as_uri()]
    subprocess.run(command, capture_output=True, timeout=2 * TALK_SECONDS, check=True)
    assert image.stat().st_size > 10_000, "the page is empty"
