"""A real Prometheus with the project's rules, whose hours are seconds."""

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT

DEPLOY = ROOT / "deploy"
RULES = sorted((DEPLOY / "prometheus/rules").glob("*.yml"))

# How often servers are scraped and rules are evaluated here, and how long each duration of the rules is. The windows
# of a rate hold several scrapes on a busy machine, too, and `for` is never nothing.
SCRAPE = "500ms"
WINDOWS = {"5m": 4, "15m": 12, "30m": 5, "1h": 6, "2h": 8, "6h": 10, "1d": 20, "3d": 30}
FOR = {"1m": 500, "2m": 500, "5m": 1000, "15m": 1500, "1h": 1500}

# What is waited for comes in seconds; this long is a failure.
PATIENCE = 90


def program(name="prometheus"):
    found = subprocess.run([ROOT / "tests/find_prometheus"], check=True, capture_output=True, text=True)
    return Path(found.stdout.strip()).with_name(name)


def promtool(*arguments, **options):
    """What it prints, if it has nothing to object to."""
    done = subprocess.run([program("promtool"), *arguments], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def hastened(rules):
    """The rules with their durations made short; one that is not foreseen here is an error."""
    rules = re.sub(r"\[(\w+)\]", lambda found: f"[{WINDOWS[found[1]]}s]", rules)
    return re.sub(r"^(\s+for:) (\w+)$", lambda found: f"{found[1]} {FOR[found[2]]}ms", rules, flags=re.MULTILINE)


def configuration(folder):
    """The project's own, with the test's rules, pace and targets."""
    text = (DEPLOY / "prometheus/prometheus.yml").read_text()
    replacements = [
        (r"(scrape_interval|evaluation_interval): 15s", rf"\1: {SCRAPE}"),
        (r"    static_configs:\n(?:      .*\n)+", f"    file_sd_configs:\n      - files: [{folder}/targets.json]\n"),
    ]
    for pattern, replacement in replacements:
        text, count = re.subn(pattern, replacement, text)
        assert count, f"prometheus.yml has nothing like {pattern}"
    return text


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def until(what, condition, patience=PATIENCE):
    """The first value of the condition that is true."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {patience} s: {what() if callable(what) else what}"
        time.sleep(0.1)
    return value


class Prometheus:
    def __init__(self, address, targets):
        self.address = address
        self.targets = targets

    def ask(self, path, **parameters):
        url = f"http://{self.address}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression):
        """Labels and value of each series."""
        found = self.ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def rules(self):
        return [rule for group in self.ask("rules")["groups"] for rule in group["rules"]]

    def alerts(self, within=""):
        """The names of those that fire, or did within some time."""
        found = self.query(f'count by (alertname) (last_over_time(ALERTS{{alertstate="firing"}}{within or "[1s]"}))')
        return {labels["alertname"] for labels, _ in found}

    def firing(self):
        return {alert["labels"]["alertname"] for alert in self.ask("alerts")["alerts"] if alert["state"] == "firing"}

    def watch(self, *addresses):
        """Scrapes these servers from now on, and no others."""
        new = self.targets.with_suffix(".new")
        new.write_text(json.dumps([{"targets": addresses}]))
        new.rename(self.targets)

        def up():
            active = self.ask("targets", state="active")["activeTargets"]
            health = {target["labels"]["instance"]: target["health"] for target in active}
            return health == {address: "up" for address in addresses}

        until(lambda: f"{addresses} are not all up: {self.ask('targets')}", up)

    def until_fired(self, *names):
        """Waits until each of these has fired since now."""
        since, wanted, seen = time.time(), set(names), set()

        def fired():
            seen.update(self.alerts(f"[{max(1, int(time.time() - since))}s]"))
            return wanted <= seen

        until(lambda: f"{wanted - seen} have not fired, but {sorted(seen)}", fired)

    def until_quiet(self):
        until(lambda: f"these do not clear: {self.firing()}", lambda: not self.firing())


@contextmanager
def prometheus(folder):
    (folder / "rules").mkdir()
    for path in RULES:
        (folder / "rules" / path.name).write_text(hastened(path.read_text()))
    (folder / "prometheus.yml").write_text(configuration(folder))
    (folder / "targets.json").write_text("[]")
    # It takes no port 0, so another process may take the port first; then it ends, and the next one is tried.
    for _ in range(5):
        address = f"127.0.0.1:{free_port()}"
        with (folder / "log").open("w+") as log:
            process = subprocess.Popen(
                [program(), "--config.file", folder / "prometheus.yml", "--storage.tsdb.path", folder / "data",
                 "--web.listen-address", address, "--query.lookback-delta", "3s"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
            try:
                if until("Prometheus does not get ready", lambda: process.poll() is not None or is_ready(address)):
                    if process.poll() is None:
                        yield Prometheus(address, folder / "targets.json")
                        return
                log.seek(0)
                said = log.read()
                assert "address already in use" in said, said
            finally:
                process.kill()
                process.wait()
                shutil.rmtree(folder / "data", ignore_errors=True)
    raise AssertionError("Prometheus found no free port")


def is_ready(address):
    try:
        with urllib.request.urlopen(f"http://{address}/-/ready", timeout=5):
            return True
    except OSError:
        return False
