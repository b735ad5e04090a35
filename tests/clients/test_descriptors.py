"""Each connection is a file descriptor, of which the server takes as many as it may have."""

import resource
from pathlib import Path

from conftest import ROOT, running


def test_the_soft_limit_is_raised_and_a_hard_one_too_low_is_told():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with running(ROOT / "models", flags=("--max-connections", str(hard))) as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
            [line] = [line for line in limits.splitlines() if line.startswith("Max open files")]
            assert line.split()[3:5] == [str(hard)] * 2
            server.wait_for("fewer file descriptors than connections")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
