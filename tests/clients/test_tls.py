"""TLS, as clients that others wrote speak it."""

import asyncio
import base64
import json
import re
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest
from conftest import REPOSITORIES, ROOT, TALK_SECONDS, binary, running
from readme import blocks
from test_browser import FLAGS, hold, until_lines  # noqa: F401
from test_websocat import WEBSOCAT
from websockets.asyncio.client import connect

HTML = "<html><body><h1>River</h1><p>It flows.</p></body></html>"
STREAM = "/v2/models/magika/stream?greeting=false"


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True).stdout


def make_certificate(folder):
    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
        "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
        "-keyout", folder / "tls.key", "-out", folder / "tls.crt",
    )


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A folder with a certificate for the loopback address, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    make_certificate(folder)
    return folder


def flags(folder):
    return ["--tls-certificate", folder / "tls.crt", "--tls-key", folder / "tls.key"]


@pytest.fixture(scope="module")
def encrypted(certificate):
    context = ssl.create_default_context(cafile=certificate / "tls.crt")
    with running(*REPOSITORIES, flags=flags(certificate), context=context) as server:
        yield server


def test_https(encrypted):
    assert json.loads(encrypted.get("/v2"))["name"] == "thalweg"


def test_websockets(encrypted, talk):
    async def conversation():
        async with connect(encrypted.ws(STREAM), ssl=encrypted.context, max_size=None) as socket:
            for _ in range(3):
                await socket.send(HTML)
            # More than the records of TLS hold, and more than its buffers.
            await socket.send(HTML.encode() + b" " * (4 << 20))
            return [json.loads(await socket.recv())["label"] for _ in range(4)]

    assert talk(conversation()) == ["html"] * 4


def test_websocat(encrypted):
    command = [WEBSOCAT, "--insecure", "--no-close", "--one-message", encrypted.ws(STREAM)]
    done = subprocess.run(command, input=HTML.encode(), capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["label"] == "html"


def test_chromium(encrypted, certificate, hold, tmp_path):  # noqa: F811
    [(page, _)] = blocks("html", encrypted)
    file = tmp_path / "page.html"
    file.write_text(page.replace("ws://", "wss://") + until_lines(2, hold))
    public = openssl("x509", "-in", certificate / "tls.crt", "-pubkey", "-noout")
    (tmp_path / "public.pem").write_bytes(public)
    der = openssl("pkey", "-pubin", "-in", tmp_path / "public.pem", "-outform", "der")
    (tmp_path / "public.der").write_bytes(der)
    digest = openssl("dgst", "-sha256", "-binary", tmp_path / "public.der")
    trust = f"--ignore-certificate-errors-spki-list={base64.b64encode(digest).decode()}"
    browser = subprocess.check_output([ROOT / "tests/find_browser"], text=True).strip()
    command = [browser, *FLAGS, trust, f"--user-data-dir={tmp_path / 'profile'}", file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * TALK_SECONDS)
    kinds = [line.split(",")[0] for line in re.findall(r"<li>(.*?)</li>", done.stdout)]
    assert kinds == ["html", "python"], done.stderr


def test_a_client_without_tls_reads_why(encrypted):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://{encrypted.address}/health", timeout=10)
    assert refused.value.code == 400
    assert json.loads(refused.value.read())["code"] == "tls_required"
    encrypted.wait_for("a client speaks plain HTTP to the port of TLS")


def test_a_client_with_tls_at_a_plain_port_has_an_alert(server):
    with pytest.raises(urllib.error.URLError, match="handshake failure"):
        urllib.request.urlopen(f"https://{server.address}/health", timeout=10)
    server.wait_for("a client speaks TLS to the plain port")


def test_the_health_check_speaks_tls_too(encrypted, certificate, server):
    def health(server, *flags):
        command = [binary(), "health", "--listen", server.address, *flags]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    with_tls = ["--tls-certificate", certificate / "tls.crt"]
    assert health(encrypted, *with_tls).stdout == "HTTP/1.1 200 OK\n"
    assert health(encrypted).returncode == 1
    assert health(server, *with_tls).returncode == 1


def test_a_certificate_that_is_no_good_ends_the_start(certificate, tmp_path):
    encrypted = tmp_path / "encrypted.key"
    openssl("pkey", "-in", certificate / "tls.key", "-aes256", "-passout", "pass:x", "-out", encrypted)
    command = [binary(), "serve", "--listen", "127.0.0.1:0", "--tls-certificate", certificate / "tls.crt"]
    done = subprocess.run([*command, "--tls-key", encrypted], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert str(encrypted) in done.stderr and "openssl pkey" in done.stderr


def test_a_renewed_certificate_is_taken(tmp_path, talk):
    """As Kubernetes renews a secret: what is mounted are links through a link that is replaced."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name)
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    (mounted / "..data").symlink_to(tmp_path / "old")
    for file in ("tls.crt", "tls.key"):
        (mounted / file).symlink_to(f"..data/{file}")
    [old, new] = [ssl.create_default_context(cafile=tmp_path / name / "tls.crt") for name in ("old", "new")]

    async def conversation(server):
        async with connect(server.ws("/v2/models/mlp64/infer"), ssl=old) as socket:
            (mounted / "..next").symlink_to(tmp_path / "new")
            (mounted / "..next").rename(mounted / "..data")
            while True:
                try:
                    async with connect(server.ws("/v2/models/mlp64/infer"), ssl=new):
                        break
                except ssl.SSLCertVerificationError:
                    await asyncio.sleep(0.1)
            await socket.send("{}")
            return json.loads(await socket.recv())["code"]

    with running(REPOSITORIES[0], flags=flags(mounted), context=old) as server:
        assert talk(conversation(server)) == "invalid_request"
