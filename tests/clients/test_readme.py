"""What the README tells its readers to run says what the README shows."""

import shutil
import subprocess
import sys
import sysconfig

import pytest
from readme import blocks


def test_python(server):
    examples = list(blocks("python", server))
    assert len(examples) == 2
    for example, shown in examples:
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60)
        assert (done.stderr, done.stdout) == ("", shown)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_shell(server):
    """The commands that talk to a server, by the labels, names and codes in what they print."""
    environment = {"PATH": f"{sysconfig.get_path('scripts')}:/usr/local/bin:/usr/bin:/bin"}
    examples = [(block, shown) for block, shown in blocks("sh", server) if server.address in block]
    assert len(examples) == 3
    for example, shown in examples:
        command = ["bash", "-euo", "pipefail", "-c", example.replace("curl ", "curl --silent --write-out '\\n' ")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        assert words(done.stdout) == words(shown), done.stdout


def words(text):
    """All but the numbers with a fraction, whose last digits are the machine's."""
    return [part for part in text.replace(",", " ").split() if "." not in part]
