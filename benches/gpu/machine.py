"""What the parts of the proof work with: the machine, Thalweg's commands, a server, and its load."""

import json
import os
import platform
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

PATIENCE = 300  # seconds for a server to be ready: it tunes and captures every batch size first
PART = 470  # seconds that a part may take in all


class Failed(Exception):
    """A sentence that says why a figure is not there."""


class Bench:
    """The settings that all parts share."""

    def __init__(self, options):
        self.out, self.work = Path(options.out), Path(options.work)
        self.thalweg = Path(options.thalweg).resolve()
        self.onnxruntime, self.device, self.quick = options.onnxruntime, options.device, options.quick
        self.bundled = Path(options.bundled)
        self.repository = self.work / ("quick" if options.quick else "models")
        if self.device == "cuda":
            os.environ["LD_LIBRARY_PATH"] = ":".join([*libraries(), os.environ.get("LD_LIBRARY_PATH", "")])
        self.end = time.monotonic() + PART
        self.cores = sorted(os.sched_getaffinity(0))
        # Children inherit it: every connection is a descriptor, at both of its ends.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, 1 << 20), max(hard, 1 << 20)))
        except (ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def begin(self):
        """A part begins, and has its time."""
        self.end = time.monotonic() + PART

    def within(self, limit):
        """So many seconds, or what is left of the part's."""
        left = min(limit, self.end - time.monotonic())
        if left < 1:
            raise Failed(f"its part had {PART} s, which are over")
        return left

    def split(self, share):
        """Cores for the server and cores for its clients; on one core both have that one."""
        count = min(max(1, share), max(1, len(self.cores) - 1))
        return self.cores[:count], self.cores[count:] or self.cores

    def settings(self, repository=None):
        """What both the server and the measuring commands are given."""
        settings = ["--device", self.device, "--model-repository", str(repository or self.repository)]
        settings += ["--kernel-cache", str(self.work / "kernels")]
        return settings + (["--onnxruntime", str(self.onnxruntime)] if self.onnxruntime else [])

    def json(self, *arguments, limit, cores=None, partial=False):
        """The JSON that one of Thalweg's commands prints. With `partial` also if the command failed."""
        done = run([self.thalweg, *arguments], self.within(limit), cores)
        try:
            found = json.loads(done.stdout)
        except ValueError:
            raise Failed(last_line(done.stderr) or f"it ended with {done.returncode}") from None
        if done.returncode and not partial:
            raise Failed(last_line(done.stderr))
        return found

    def ceiling(self, model, *arguments, limit=PART):
        return self.json("models", "ceiling", model, "--json", *self.settings(), *arguments, limit=limit, partial=True)

    def found(self, part):
        """What another part has written, if it ran."""
        path = self.out / f"{part}.json"
        return json.loads(path.read_text()) if path.exists() else {}


def libraries():
    """Where CUDA's own libraries may be: in packages of Python, as PyTorch brings them, or where NVIDIA installs them."""
    try:
        import nvidia

        packages = [str(folder) for path in nvidia.__path__ for folder in sorted(Path(path).glob("*/lib"))]
    except ImportError:
        packages = []
    return [*packages, "/usr/local/cuda/lib64", "/usr/local/nvidia/lib64"]


def run(command, limit, cores=None):
    pinned = (lambda: os.sched_setaffinity(0, cores)) if cores else None
    command = [str(word) for word in command]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit, preexec_fn=pinned)
    except subprocess.TimeoutExpired:
        raise Failed(f"no end of it within {limit:.0f} s") from None


def last_line(text):
    return (text.strip().splitlines() or [""])[-1]


class Server:
    """A process that serves, on cores of its own."""

    def __init__(self, command, cores, log, patience=PATIENCE):
        pinned = lambda: os.sched_setaffinity(0, cores)
        with open(log, "w") as errors:
            command = [str(word) for word in command]
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, preexec_fn=pinned, start_new_session=True
            )
        self.log, self.address, self.patience = log, None, patience

    def __enter__(self):
        try:
            for line in self.process.stdout:
                if found := re.match(r"listening on (\S+)", line):
                    self.address = found[1]
                    break
            else:
                raise Failed(f"the server ended: {last_line(Path(self.log).read_text())}")
            threading.Thread(target=self.process.stdout.read, daemon=True).start()
            self.await_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def await_ready(self):
        end = time.monotonic() + self.patience
        while self.process.poll() is None and time.monotonic() < end:
            try:
                self.get("/v2/health/ready")
                return
            except OSError:
                time.sleep(0.1)
        raise Failed(f"the server was not ready: {last_line(Path(self.log).read_text())}")

    def __exit__(self, *_):
        try:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        except ProcessLookupError:
            pass

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as reply:
            return reply.read().decode()

    def metrics(self):
        """`name{labels}` → its value."""
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics").splitlines() if line and line[0] != "#")
        return {name: float(value) for name, value in lines}


def serve(bench, cores, *arguments, repository=None, threads=None):
    fixed = ["serve", "--listen", "127.0.0.1:0", "--log", "info", "--grace-period", "1", "--threads", threads or len(cores)]
    log = bench.out / "server.log"
    return Server([bench.thalweg, *fixed, *bench.settings(repository), *arguments], cores, log, bench.within(PATIENCE))


def load(bench, server, cores, model, *arguments, limit=300):
    """The result of `thalweg bench` against a server."""
    fixed = ["--model", model, "--threads", str(len(cores)), "--quiet", "--json", "-", "--allow-errors"]
    pid = ["--server-pid", str(server.process.pid)]
    command = ["bench", f"ws://{server.address}", *fixed, *pid, *arguments]
    return bench.json(*command, limit=limit, cores=cores)


def figures(step):
    """What the proof tells of one step of a load."""
    latency, server = step["latency_ms"], step.get("server") or {}
    lost = step["requests"]
    return {
        "rate": step["rate"],
        "p50_ms": latency.get("p50"),
        "p99_ms": latency.get("p99"),
        "failures": sum(lost["failed"].values()) + lost["lost"],
        "client_busy": max(step["client"]["busy"], default=None),
        "batch": server.get("batch_size"),
        "server_cpu": server.get("cpu"),
        "cpu_us": server.get("cpu_per_answer_us"),
        "warnings": step.get("warnings", []),
    }


def about(bench):
    """The machine, its driver, and the versions."""
    cpus = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    asked = "name,driver_version,memory.total,pcie.link.gen.max,pcie.link.width.max,clocks.max.sm"
    try:
        gpu = subprocess.run(["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"], capture_output=True, text=True)
        gpu = gpu.stdout.strip().splitlines()
    except OSError:
        gpu = []
    ports = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": len(bench.cores),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "kernel": platform.release(),
        "gpus": gpu,
        "thalweg": run([bench.thalweg, "--version"], 20).stdout.strip(),
        "python": sys.version.split()[0],
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "ports": ports.read_text().split() if ports.exists() else None,
        "quick": bench.quick,
        "device": bench.device,
    }
