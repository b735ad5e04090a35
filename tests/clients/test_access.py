"""Keys, as clients that others wrote carry them."""

import base64
import json
import re
import subprocess
import urllib.error
import urllib.request

import pytest
from conftest import REPOSITORIES, ROOT, TALK_SECONDS, binary, running
from readme import blocks
from test_browser import FLAGS, hold, until_lines  # noqa: F401
from test_websocat import WEBSOCAT
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

HTML = "<html><body><h1>River</h1><p>It flows.</p></body></html>"
STREAM = "/v2/models/magika/stream?greeting=false"


def keys(*arguments, **options):
    return subprocess.run([binary(), "keys", *arguments], capture_output=True, text=True, timeout=60, **options)


@pytest.fixture(scope="module")
def made():
    """An entry of the file, and its key."""
    made = keys("new", "tests")
    assert made.returncode == 0
    return made.stdout, made.stderr.strip().rsplit(" ", 1)[1]


@pytest.fixture(scope="module")
def guarded(made, tmp_path_factory):
    file = tmp_path_factory.mktemp("access") / "access.toml"
    file.write_text(made[0])
    with running(*REPOSITORIES, flags=["--access-file", file, "--log", "trace"]) as server:
        yield server
        # Not even here, where all is told.
        assert made[1] not in server.tail() and "access_token" not in server.tail()


def subprotocols(key):
    return ["thalweg", "thalweg.key." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")]


def test_the_checksum_of_a_key(made):
    entry, key = made
    assert len(key) == 43 and key not in entry
    assert keys("hash", input=key + "\n").stdout.strip() in entry
    assert "at least 20" in keys("hash", input="guess me\n").stderr
    assert keys("new", "a b").returncode == 1


def test_http_clients(guarded, made):
    def get(path, **headers):
        request = urllib.request.Request(guarded.http(path), headers=headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)

    assert get("/v2", Authorization=f"Bearer {made[1]}")["name"] == "thalweg"
    for refused in [{}, {"X-Api-Key": made[1][1:]}]:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            get(f"/v2?access_token={made[1]}", **refused)


def test_websockets(guarded, made, talk):
    async def ask(**options):
        async with connect(guarded.ws(STREAM), **options) as socket:
            await socket.send(HTML)
            return json.loads(await socket.recv())["label"], socket.subprotocol

    assert talk(ask(additional_headers={"X-Auth-Token": made[1]})) == ("html", None)
    assert talk(ask(subprotocols=subprotocols(made[1]))) == ("html", "thalweg")
    with pytest.raises(InvalidStatus) as refused:
        talk(ask())
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["WWW-Authenticate"] == 'Bearer realm="thalweg"'
    assert json.loads(refused.value.response.body)["code"] == "unauthenticated"


def test_websocat(guarded, made):
    command = [WEBSOCAT, "--no-close", "--one-message", f"--header=Authorization: Bearer {made[1]}", guarded.ws(STREAM)]
    done = subprocess.run(command, input=HTML.encode(), capture_output=True, timeout=60)
    assert json.loads(done.stdout)["label"] == "html", done.stderr.decode()


def test_chromium(guarded, made, hold, tmp_path):  # noqa: F811
    [(page, _)] = blocks("html", guarded)
    page, count = re.subn(r'new WebSocket\((".*?")\)', rf"new WebSocket(\1, {subprotocols(made[1])})", page)
    assert count == 1
    file = tmp_path / "page.html"
    file.write_text(page + until_lines(2, hold))
    browser = subprocess.check_output([ROOT / "tests/find_browser"], text=True).strip()
    command = [browser, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TALK_SECONDS)
    kinds = [line.split(",")[0] for line in re.findall(r"<li>(.*?)</li>", done.stdout)]
    assert kinds == ["html", "python"], done.stderr
