"""What ModelArts asks of an image, of the image's own entry point: docs/MODELARTS.md has it with its sources."""

import asyncio
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import PORT, ROOT, talk, ws
from image import Image, stage
from wire import BINARY, TEXT, RawSocket, answer, binary_request, text_request

REQUESTS = 10_000
TOKEN = "MII" + "x" * (40 << 10)
GATEWAY_IDLE_SECONDS = 40  # the least that a gateway of the platform is said to allow

ONE = np.zeros((1, 64), np.float32)


@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.cuda"])
def test_the_image_is_configured_as_the_platform_wants_it(file):
    image = Image(stage((ROOT / file).read_text(), "thalweg"))
    assert image.ports == {"8080"} and image.env["THALWEG_LISTEN"] == "0.0.0.0:8080"
    assert image.env["THALWEG_MODEL_REPOSITORY"] == "/home/mind/model"
    assert image.user == "1000:100" and image.stop_signal == "SIGTERM"
    assert [*image.entrypoint, *image.command] == ["thalweg", "serve"]


def test_the_user_has_its_name(root):
    told = subprocess.run(["chroot", root, "id", "ma-user"], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "uid=1000(ma-user) gid=100(ma-group) groups=100(ma-group)"


def test_it_runs_as_its_user_on_its_port(container, root):
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{container.pid}/status").read_text().splitlines())
    assert status["Uid"].split() == ["1000"] * 4 and status["Gid"].split() == ["100"] * 4
    assert status["Groups"].split() == [] and int(status["CapEff"], 16) == 0
    assert status["NSpid"].split()[-1] == "1", "it is not the first process of the container"
    listening = [line.split()[1] for line in Path("/proc/net/tcp").read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert listening == [f"00000000:{PORT:04X}"], "it listens elsewhere, or not on all addresses"


def test_health(container):
    assert json.loads(container.get("/health")) == {"health": "true"}
    # Two other paths that the platform is told of.
    assert "# TYPE thalweg_" in container.get("/metrics")
    assert container.status("/v2/health/live") == 200


PATHS = ["/", "/?model=magika", "/?greeting=false&trace=1&x=%2F", "/v2/models/magika/stream", "/v2/models/magika/stream?a=b&greeting=false"]
HEADERS = {
    "token": {"X-Auth-Token": TOKEN},
    "app code": {"X-Apig-AppCode": "0123456789abcdef"},
    "signature": {"X-Sdk-Date": "20191115T033655Z", "Authorization": "SDK-HMAC-SHA256 Access=A, SignedHeaders=host, Signature=0"},
    "api key": {"Authorization": "Bearer 0123456789abcdef"},
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("kind", HEADERS)
def test_every_path_with_every_credential(container, path, kind):
    async def main():
        async with ws(path, additional_headers=HEADERS[kind]) as socket:
            if "greeting=false" not in path:
                assert json.loads(await socket.recv())["type"] == "session.created"
            await socket.send("<html><body><h1>River</h1><p>It flows.</p></body></html>")
            assert json.loads(await socket.recv())["label"] == "html"

    talk(main())


def test_requests_on_the_models_path_with_a_long_token(container):
    async def main():
        async with ws("/v2/models/mlp64/infer?from=gateway", additional_headers=HEADERS["token"]) as socket:
            await socket.send(text_request({"x": ONE}, id="1"))
            assert answer(await socket.recv())[0]["id"] == "1"

    talk(main())


def test_ten_thousand_requests_on_one_socket(container):
    async def main():
        async with ws("/v2/models/mlp64/infer") as socket:
            async def send():
                for id in range(REQUESTS):
                    await socket.send(binary_request({"x": ONE}, id=str(id)))

            sending = asyncio.create_task(send())
            for id in range(REQUESTS):
                head, _ = answer(await socket.recv())
                assert head.get("id") == str(id) and "error" not in head, head
            await sending

    talk(main())


def test_pings_come_more_often_than_gateways_are_patient():
    rows = [line.split("|") for line in (ROOT / "README.md").read_text().splitlines() if "`ping_interval` |" in line]
    [default] = [int(row[4]) for row in rows]
    assert default * 2 < GATEWAY_IDLE_SECONDS


JSON = '{"river": "Rhine", "length_km": 1233, "flows": true}\n' * 3
XML = '<?xml version="1.0"?>\n<rivers><river name="Rhine"><length>1233</length></river></rivers>\n'
HTML = "<!doctype html>\n<html><head><title>River</title></head><body><p>It flows.</p></body></html>\n"
PROSE = "The river flows past the old mill. It never sleeps, and nobody knows where it comes from.\n" * 3
PNG = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000001000000010806000000 1f15c489".replace(" ", "")) + bytes(range(256))


def test_any_kind_of_message_is_answered(container):
    """In their order, on one socket that stays open."""

    async def main():
        async with ws("/?greeting=false") as socket:
            for message, labels in [(JSON, {"json", "jsonl"}), (XML, {"xml"}), (HTML, {"html"}), (PROSE, {"txt", "markdown"}), (PNG, {"png"}), ("", {"empty"})]:
                await socket.send(message)
                said = json.loads(await socket.recv())
                assert said["type"] == "result" and said["label"] in labels, said

    talk(main())


GARBAGE = {PROSE: "invalid_json", XML: "invalid_json", HTML: "invalid_json", JSON.splitlines()[0]: "invalid_request", "": "invalid_json"}
BYTES = {b"": "invalid_framing", PNG: "invalid_framing", bytes(64): "invalid_json"}


def test_what_is_no_request_is_told_so_and_costs_nothing_else(container):
    async def main():
        async with ws("/v2/models/mlp64/infer") as socket:
            for message, code in [*GARBAGE.items(), *BYTES.items()]:
                await socket.send(message)
                head, _ = answer(await socket.recv())
                assert head["code"] == code and head["error"] and head["retryable"] is False, (message, head)
            await socket.send(binary_request({"x": ONE}))
            assert "error" not in answer(await socket.recv())[0]
        async with ws("/v2/models/silero_vad/stream?greeting=false") as socket:
            await socket.send(HTML)
            assert json.loads(await socket.recv())["code"] == "unknown_control"
            await socket.send(bytes(1024))
            assert json.loads(await socket.recv())["type"] == "result"

    talk(main())


@pytest.mark.parametrize("path", ["/?greeting=false", "/v2/models/mlp64/infer"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_what_is_too_large_is_told_so_before_the_end(container, path, opcode):
    async def main():
        socket = await RawSocket.connect("127.0.0.1", PORT, path)
        socket.send(opcode, b" " * ((16 << 20) + 1))
        [said], code = await socket.until_close()
        assert (said["code"], code) == ("message_too_large", 1009), said
        socket.abort()

    talk(main())
