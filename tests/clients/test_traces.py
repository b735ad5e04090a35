"""Traces and logs of a real server: the spans that a collector gets, and the lines that someone on call reads."""

import http.client
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request

import numpy as np
import pytest
from collector import Collector
from conftest import REPOSITORIES, ROOT, binary, running
from websockets.asyncio.client import connect
from wire import answer, binary_request, text_request

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
INPUT = {"x": np.zeros((2, 64), np.float32)}
POISON = {"x": np.float32([[1, 2, 3, 666]])}
INFER = "/v2/models/mlp64/infer"
# SPAN_KIND_INTERNAL and SPAN_KIND_SERVER
INTERNAL, SERVER = 1, 2


def post(server, path=INFER, body=text_request(INPUT), **headers):
    """Status, headers and body, also of a refusal."""
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.http(path), body and body.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def ask(talk, server, path, messages, count=None, **headers):
    """Sends messages, and takes as many answers."""

    async def main():
        headers_sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with connect(server.ws(path), additional_headers=headers_sent) as socket:
            for message in messages:
                await socket.send(message)
            return [await socket.recv() for _ in range(len(messages) if count is None else count)], socket.response

    return talk(main())


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(autouse=True)
def forget(request):
    """Each test sees spans of its own."""
    if "collector" in request.fixturenames:
        request.getfixturevalue("collector").spans.clear()


@pytest.fixture(scope="module")
def traced(collector):
    flags = ["--otlp-endpoint", collector.url, "--trace-ratio", "1"]
    with running(*REPOSITORIES, flags=flags, log_format="json") as server:
        yield server


def check_stages(collector, span, names):
    """The stages are in order, within their span, one beginning where another ends."""
    collector.until(lambda spans: sum(stage.parent == span.id for stage in spans) >= len(names))
    stages = collector.stages(span)
    assert [stage.name for stage in stages] == names
    assert all((stage.trace, stage.kind) == (span.trace, INTERNAL) for stage in stages)
    moments = [span.start] + [moment for stage in stages for moment in (stage.start, stage.end)] + [span.end]
    assert moments == sorted(moments), moments
    assert sum(stage.end - stage.start for stage in stages) <= span.end - span.start
    run = stages[names.index("run")]
    assert run.end > run.start, "a run takes time"


def test_a_request_over_http(traced, collector):
    before = time.time_ns()
    status, headers, _ = post(traced, x_request_id="abc-1", traceparent=SAMPLED, tracestate="a=1,b=2")
    after = time.time_ns()
    assert (status, headers["x-request-id"]) == (200, "abc-1")
    [span] = collector.named("POST /v2/models/{model}/infer")
    assert (span.trace, span.parent, span.state, span.kind) == (TRACE, SPAN, "a=1,b=2", SERVER)
    # The clocks are one, but for what it was set by meanwhile.
    assert before - 10**8 < span.start <= span.end < after + 10**8
    wanted = {
        "http.request.method": "POST",
        "http.route": "/v2/models/{model}/infer",
        "http.response.status_code": 200,
        "url.path": INFER,
        "client.address": "127.0.0.1",
        "thalweg.model.name": "mlp64",
        "thalweg.model.version": "1",
        "thalweg.rows": 2,
        "thalweg.batch.size": 2,
        "thalweg.request.id": "abc-1",
    }
    assert wanted.items() <= span.attributes.items(), span.attributes
    assert not span.failed and span.resource["service.name"] == "thalweg"
    check_stages(collector, span, ["receive", "decode", "queue", "gather", "run", "scatter", "encode"])


def test_without_a_parent_a_trace_begins(traced, collector):
    post(traced)
    post(traced, traceparent="00-nonsense", tracestate="a=1")
    first, second = collector.named("POST /v2/models/{model}/infer", 2)
    assert first.parent == second.parent == "" and len({first.trace, second.trace, TRACE}) == 3


def test_a_parent_that_is_not_sampled_is_honoured(traced, collector):
    post(traced, traceparent=UNSAMPLED)
    post(traced, path="/v2", body=None)
    collector.named("GET /v2")
    assert not [span for span in collector.spans if span.trace == TRACE]


def test_those_who_watch_the_server_are_not_traced(traced, collector):
    for path in ("/health", "/metrics", "/v2/health/live", "/v2"):
        post(traced, path=path, body=None)
    collector.named("GET /v2")
    assert {span.name for span in collector.spans} == {"GET /v2"}


def test_errors_of_the_client_and_of_the_server(traced, collector, talk):
    assert post(traced, body="{}")[0] == 400
    [span] = collector.named("POST /v2/models/{model}/infer")
    assert not span.failed and span.attributes["http.response.status_code"] == 400
    assert span.attributes["thalweg.error.code"] == "invalid_request" and "error.type" not in span.attributes
    fields = {"id": "r1", "parameters": {"traceparent": SAMPLED}}
    [told], response = ask(talk, traced, "/v2/models/poison/infer", [text_request(POISON, **fields)])
    assert json.loads(told)["code"] == "inference_failed"
    [span] = collector.named("infer poison")
    assert span.failed and span.attributes["error.type"] == "inference_failed"
    assert (span.attributes["thalweg.message.id"], span.trace) == ("r1", TRACE)
    [line] = lines(traced, lambda line: line["level"] == "ERROR")
    fields = line["fields"]
    assert fields["request_id"] == response.headers["x-request-id"] == span.attributes["thalweg.request.id"]
    assert (fields["id"], fields["code"], fields["model"]) == ("r1", "inference_failed", "poison")


def test_messages_of_a_socket(traced, collector, talk):
    own = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "c=3"}
    messages = [text_request(INPUT, id="one"), binary_request(INPUT), text_request(INPUT, parameters=own)]
    answers, response = ask(talk, traced, INFER, messages, traceparent=SAMPLED)
    assert all("error" not in answer(message)[0] for message in answers)
    [connection] = collector.named("GET /v2/models/{model}/infer")
    assert (connection.trace, connection.parent, connection.kind) == (TRACE, SPAN, SERVER)
    assert connection.attributes["http.response.status_code"] == 101
    assert connection.attributes["thalweg.messages.received"] == connection.attributes["thalweg.messages.sent"] == 3
    assert connection.attributes["thalweg.close.code"] == 1000
    one, two, three = collector.named("infer mlp64", 3)
    assert (three.trace, three.parent, three.state) == ("a" * 32, "b" * 16, "c=3")
    assert one.parent == two.parent == "" and len({one.trace, two.trace, TRACE}) == 3
    for span in (one, two, three):
        assert span.links == [(TRACE, connection.id)]
        assert span.attributes["thalweg.request.id"] == response.headers["x-request-id"]
        assert connection.start <= span.start <= span.end <= connection.end + 10**7
        check_stages(collector, span, ["decode", "queue", "gather", "run", "scatter", "encode"])
    assert one.attributes["thalweg.message.id"] == "one" and "thalweg.message.id" not in two.attributes


def test_a_socket_whose_parent_is_not_sampled(traced, collector, talk):
    own = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    ask(talk, traced, INFER, [text_request(INPUT), text_request(INPUT, parameters=own)], traceparent=UNSAMPLED)
    [span] = collector.named("infer mlp64")
    assert (span.trace, span.links) == ("a" * 32, [])
    assert not [span for span in collector.spans if span.name.startswith("GET")]


def test_steps_of_a_stream(traced, collector, talk):
    windows = np.zeros(512 * 5, np.int16).tobytes()
    path = "/v2/models/silero_vad/stream?greeting=false"
    ask(talk, traced, path, [windows], 5)
    [connection] = collector.named("GET /v2/models/{model}/stream")
    steps = collector.named("step silero_vad", 5)
    assert [step.attributes["thalweg.step.seq"] for step in steps] == [0, 1, 2, 3, 4]
    assert len({step.trace for step in steps} | {connection.trace}) == 6
    for step in steps:
        assert step.links == [(connection.trace, connection.id)] and step.parent == ""
        check_stages(collector, step, ["queue", "gather", "run", "scatter", "encode"])
    ask(talk, traced, "/v2/models/magika/stream?greeting=false", ["<html><body>A river.</body></html>"])
    [step] = collector.named("step magika")
    check_stages(collector, step, ["queue", "gather", "run", "scatter", "encode"])


def test_what_is_sent_is_counted(traced, collector):
    post(traced)
    collector.named("POST /v2/models/{model}/infer")
    assert metric(traced, "thalweg_spans_exported_total") >= 8
    assert metric(traced, "thalweg_spans_dropped_total") == 0


def metric(server, name):
    found = [line.rsplit(" ", 1)[1] for line in server.get("/metrics").splitlines() if re.match(rf"{name}[ {{]", line)]
    return sum(map(float, found))


@pytest.mark.parametrize("ratio, least, most", [("0", 0, 0), ("0.5", 20, 180)])
def test_a_share_is_sampled(ratio, least, most, talk):
    """Of 200 messages; with a fair half, fewer than 20 or more than 180 never happen."""
    collector = Collector()
    flags = ["--otlp-endpoint", collector.url, "--trace-ratio", ratio]
    with running(*REPOSITORIES, flags=flags) as server:
        ask(talk, server, INFER, [text_request(INPUT)] * 200)
        post(server, traceparent=SAMPLED)
    # The end of the server has sent the rest.
    spans = [span for span in collector.spans if span.name == "infer mlp64"]
    assert least <= len(spans) <= most
    assert [span.trace for span in collector.spans if span.name.startswith("POST")] == [TRACE]
    collector.close()


def test_the_end_sends_the_rest(talk):
    """Behind what a slow collector is still busy with."""
    collector = Collector(hangs=True)
    flags = ["--otlp-endpoint", collector.url, "--trace-ratio", "1", "--otlp-service-name", "ears"]
    with running(*REPOSITORIES, flags=flags) as server:
        ask(talk, server, INFER, [text_request(INPUT)] * 100)
        collector.until(lambda spans: len(spans) == 701)
        ask(talk, server, INFER, [text_request(INPUT)] * 100)
        threading.Timer(2, collector.go_on.set).start()
    spans = list(collector.spans)
    assert sum(span.name == "infer mlp64" for span in spans) == 200 and len(spans) == 1402
    assert {span.resource["service.name"] for span in spans} == {"ears"}
    collector.close()


@pytest.mark.parametrize("how", ["down", "hangs", "refuses"])
def test_a_collector_that_fails_costs_no_answer(how, talk):
    collector = Collector(hangs=how == "hangs", status=400 if how == "refuses" else 200)
    if how == "down":
        collector.close()
    flags = ["--otlp-endpoint", collector.url, "--trace-ratio", "1", "--grace-period", "3"]
    with running(*REPOSITORIES, flags=flags) as server:
        for _ in range(30):
            answers, _ = ask(talk, server, INFER, [text_request(INPUT)] * 100)
            assert all("error" not in answer(message)[0] for message in answers)
        if how == "refuses":
            while metric(server, "thalweg_spans_dropped_total") == 0:
                time.sleep(0.05)
            assert 'thalweg_spans_dropped_total{reason="export_failed"}' in server.get("/metrics")
            server.wait_for("spans could not be sent")
        else:
            # 3000 requests of seven spans; some 2048 wait.
            assert metric(server, "thalweg_spans_dropped_total") >= 7 * 500
        assert metric(server, "thalweg_spans_exported_total") == 0
        asked = time.monotonic()
        assert server.stop() == 0
        # Three seconds of grace, and some for a machine that is busy.
        assert time.monotonic() - asked < 10
    if how != "down":
        collector.close()


def test_an_endpoint_that_is_none_ends_the_start():
    with pytest.raises(AssertionError, match="http://collector:4318 is needed"):
        with running(*REPOSITORIES, flags=["--otlp-endpoint", "collector"]):
            pass


def lines(server, wanted):
    """The log's lines that are wanted; all of it is JSON."""
    deadline = time.monotonic() + 30
    while True:
        told = [json.loads(line) for line in list(server.log) if not re.match(r"(listening|metrics) on ", line)]
        if found := [line for line in told if wanted(line)]:
            return found
        assert time.monotonic() < deadline, server.tail()
        time.sleep(0.02)


def of(request_id):
    return lambda line: line["target"] == "thalweg::access" and line["fields"]["request_id"] == request_id


def test_a_line_for_each_request(traced, collector):
    _, headers, body = post(traced, traceparent=UNSAMPLED)
    [line] = lines(traced, of(headers["x-request-id"]))
    fields = line["fields"]
    assert re.fullmatch(r"127\.0\.0\.1:\d+", fields.pop("peer")) and fields.pop("duration_ms") > 0
    assert (line["level"], fields) == ("INFO", {
        "message": "request",
        "request_id": headers["x-request-id"],
        "trace_id": TRACE,
        "method": "POST",
        "route": "/v2/models/{model}/infer",
        "model": "mlp64",
        "status": 200,
        "bytes_received": len(text_request(INPUT)),
        "bytes_sent": len(body),
    })
    for path, status, code in (("/nowhere", 404, "unknown_route"), ("/v2/models/none/infer", 404, "unknown_model")):
        assert post(traced, path=path + "?key=secret", x_request_id=code)[0] == status
        [line] = lines(traced, of(code))
        assert (line["fields"]["status"], line["fields"]["code"], line["fields"]["path"]) == (status, code, path[:40])
    assert "secret" not in traced.tail()


def test_an_id_that_could_not_stand_in_a_log_is_replaced(traced):
    for bad in ("two words", "x" * 129, ""):
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]+", post(traced, x_request_id=bad)[1]["x-request-id"])


def test_a_line_for_each_connection(traced, talk):
    _, response = ask(talk, traced, INFER, [text_request(INPUT)] * 3, x_request_id="socket-1")
    assert response.headers["x-request-id"] == "socket-1"
    [line] = lines(traced, of("socket-1"))
    fields = line["fields"]
    wanted = {"message": "connection", "status": 101, "close_code": 1000, "model": "mlp64",
              "messages_received": 3, "messages_sent": 3, "bytes_received": 3 * len(text_request(INPUT))}
    assert wanted.items() <= fields.items(), fields
    assert fields["bytes_sent"] > 0 and fields["trace_id"]


def test_a_handshake_that_is_refused_is_a_request(traced):
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "x_request_id": "bad-handshake"}
    assert post(traced, body=None, **headers)[0] == 400
    [line] = lines(traced, of("bad-handshake"))
    assert (line["fields"]["message"], line["fields"]["code"]) == ("request", "invalid_upgrade")


def test_a_flood_is_told_in_so_many_lines():
    with running(*REPOSITORIES, flags=["--access-log", "5"]) as server:
        for _ in range(200):
            post(server, path="/nowhere", body=None)
        told = [line for line in server.log if "thalweg::access" in line]
        assert 5 <= len(told) < 200
        # The next line tells how many were left out before it.
        time.sleep(1.1)
        post(server, path="/v2", body=None)
        deadline = time.monotonic() + 30
        while "left_out=" not in server.tail():
            assert time.monotonic() < deadline, server.tail()
            time.sleep(0.02)
    with running(*REPOSITORIES, flags=["--access-log", "0"]) as server:
        post(server, path="/nowhere", body=None)
        assert "thalweg::access" not in server.tail()


def test_a_log_that_nobody_reads_holds_nobody_up():
    """A pipe takes 64 KiB; what is beyond waits or is dropped, and neither requests nor the end wait for it."""
    command = [binary(), "serve", "--listen", "127.0.0.1:0", "--model-repository", REPOSITORIES[0], "--access-log", "100000"]
    pipes = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(command, cwd=ROOT, **pipes) as process:
        try:
            connection = http.client.HTTPConnection(process.stdout.readline().split()[-1], timeout=30)
            for at in range(10_000):
                connection.request("GET", "/v2", headers={"x-request-id": f"{at:x<128}"})
                answer = connection.getresponse()
                assert answer.read() and answer.status == 200
            process.terminate()
            assert process.wait(30) == 0
            assert 2**15 < len(process.stderr.read()) < 128 * 10_000
        finally:
            process.kill()


def test_messages_are_told_to_those_who_ask(talk):
    with running(*REPOSITORIES, flags=["--log", "info,thalweg::message=debug"], log_format="json") as server:
        ask(talk, server, INFER, [text_request(INPUT, id="m1"), "{"], x_request_id="s1")
        told = lines(server, lambda line: line["target"] == "thalweg::message" and line["fields"]["code"] != "ok")
        assert (told[0]["fields"]["request_id"], told[0]["fields"]["code"]) == ("s1", "invalid_json")
        [first] = lines(server, lambda line: line["fields"].get("id") == "m1")
        assert first["fields"]["code"] == "ok"
        # Those who watch are told of at this level only.
        server.get("/health")
        assert not [line for line in server.log if '"route":"/health"' in line]
