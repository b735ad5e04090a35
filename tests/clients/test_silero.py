"""Speech is found as the silero-vad package itself finds it, whoever else is streaming."""

import asyncio
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import numpy as np
import pytest
from conftest import ROOT, binary, running
from silero import MODEL, RATE, ROUNDING, WINDOW, Silero
from speech import pieces, recording, resample
from websockets.asyncio.client import connect
from wire import answer

STREAM = "/v2/models/silero_vad/stream"
FLUSH, RESET, CLOSE = (json.dumps({"type": kind}) for kind in ("flush", "reset", "close"))


@pytest.fixture(scope="module")
def silero():
    return Silero()


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """A server whose model takes them in the package's order."""
    folder = tmp_path_factory.mktemp("repository") / "silero_vad"
    (folder / "1").mkdir(parents=True)
    shutil.copy(MODEL, folder / "1")
    settings = (ROOT / "models/silero_vad/model.toml").read_text()
    option = "optimization.convolutions_as_gemm = true\n"
    assert option in settings
    (folder / "model.toml").write_text(settings.replace(option, ""))
    command = [binary(), "models", "specialise", "silero_vad", "--model-repository", folder.parent]
    subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=True)
    with running(folder.parent) as server:
        yield server


class Expected:
    """What the package makes of a signal."""

    def __init__(self, silero, samples, silence=0):
        self.signal = samples if samples.dtype == np.float32 else samples / np.float32(32768)
        self.probabilities = silero.probabilities(self.signal, silence)
        self.events = silero.events(self.probabilities)
        self.times = [at for event in self.events for at in event.values()]

    def check(self, results, tolerance=ROUNDING, first=0):
        """That these are all results, with positions from the signal's beginning."""
        assert [result["seq"] for result in results] == list(range(first, first + len(self.probabilities)))
        starts = [WINDOW * at for at in range(len(results))]
        ends = [min(start + WINDOW, len(self.signal)) for start in starts]
        assert [sample(result["start_ms"]) for result in results] == starts
        assert [sample(result["end_ms"]) for result in results] == ends
        got = np.array([result["probability"] for result in results], np.float32)
        assert np.abs(got - self.probabilities).max() <= tolerance
        assert [events(result) for result in results] == self.events

    def rest(self):
        """The end that a flush adds to speech that goes on."""
        told = [kind for event in self.events for kind in event]
        return {"end": len(self.signal)} if told and told[-1] == "start" else {}


def sample(ms):
    position = ms * RATE / 1000
    assert position == round(position)
    return round(position)


def events(message):
    """As the package's iterator gives them."""
    return {event["type"].removeprefix("speech_"): sample(event["at_ms"]) for event in message.get("events", [])}


async def send_all(socket, messages):
    for message in messages:
        await socket.send(message)


async def until(socket, kind):
    """The results before a message of this type, and the message."""
    results = []
    while (message := json.loads(await socket.recv()))["type"] == "result":
        results.append(message)
    assert message["type"] == kind, message
    return results, message


async def told(server, messages, query=""):
    """The results of a stream that sends these and closes, and what closing said."""
    async with connect(server.ws(f"{STREAM}?greeting=false{query}")) as socket:
        sending = asyncio.create_task(send_all(socket, [*messages, CLOSE]))
        results, flushed = await until(socket, "flushed")
        await sending
        await socket.wait_closed()
        assert socket.close_code == 1000
    return results, flushed


@pytest.mark.parametrize("which", ["server", "exact"])
def test_sixty_four_at_once(which, request, talk, silero):
    server, tolerance = request.getfixturevalue(which), ROUNDING
    if which == "exact":
        # To the last bit, where ONNX Runtime rounds alike in batches of all sizes; it chooses its loops by the processor.
        tolerance = 0 if silero.batches_alike() else 1e-6
    expected = [Expected(silero, recording(seed)) for seed in range(64)]
    runs_before, alone_before = server.batches("silero_vad")

    async def stream(seed):
        """Two rounds over one connection, so that positions and state begin anew in the second."""
        async with connect(server.ws(STREAM)) as socket:
            greeting = json.loads(await socket.recv())
            assert greeting["type"] == "session.created"
            assert (greeting["input"]["sample_rate"], greeting["input"]["window"]) == (RATE, WINDOW)
            data = recording(seed).tobytes()
            sending = asyncio.create_task(
                send_all(socket, [*pieces(data, seed), FLUSH, RESET, *pieces(data, -seed), CLOSE])
            )
            results, flushed = await until(socket, "flushed")
            await until(socket, "reset")
            again, flushed_again = await until(socket, "flushed")
            await sending
            await socket.wait_closed()
            assert socket.close_code == 1000
            return results, flushed, again, flushed_again

    async def main():
        return await asyncio.gather(*(stream(seed) for seed in range(64)))

    for want, (results, flushed, again, flushed_again) in zip(expected, talk(main())):
        want.check(results, tolerance)
        want.check(again, tolerance, first=len(results))
        assert events(flushed) == events(flushed_again) == want.rest()
    # It says nothing of batches if there were none; and of speech if nobody spoke and paused.
    runs, alone = server.batches("silero_vad")
    assert runs - runs_before > alone - alone_before
    assert sum(len(want.times) for want in expected) > 200


def test_the_greeting_is_the_one_that_is_documented(server, talk):
    documented = (ROOT / "docs/STREAMS.md").read_text().splitlines()

    async def main():
        async with connect(server.ws(STREAM)) as socket:
            assert await socket.recv() in documented

    talk(main())


def test_as_binary_tensors(server, talk, silero):
    expected = Expected(silero, recording(1))

    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false&output=binary")) as socket:
            sending = asyncio.create_task(send_all(socket, [*pieces(recording(1).tobytes(), 1), FLUSH]))
            for seq, want in enumerate(expected.probabilities):
                head, outputs = answer(await socket.recv())
                assert (head["model_name"], head["id"], list(outputs)) == ("silero_vad", str(seq), ["output"])
                assert outputs["output"].shape == (1, 1)
                assert abs(outputs["output"][0, 0] - want) <= ROUNDING
            assert json.loads(await socket.recv())["type"] == "flushed"
            await sending

    talk(main())


def test_only_events(server, talk, silero):
    expected = Expected(silero, recording(2))
    before = messages_sent(server)
    results, _ = talk(told(server, pieces(recording(2).tobytes(), 2), "&output=events"))
    with_events = [(seq, event) for seq, event in enumerate(expected.events) if event]
    assert [(result["seq"], events(result)) for result in results] == with_events
    assert messages_sent(server) - before == len(results) + len(["flushed"])


def messages_sent(server):
    [line] = re.findall(r'^thalweg_messages_total{direction="sent"} (\d+)$', server.get("/metrics"), re.MULTILINE)
    return int(line)


def mulaw(samples):
    """G.711, by the definition: the code whose level is nearest."""
    return nearest(samples, levels(lambda exponent, mantissa: 4 * (((2 * mantissa + 33) << exponent) - 33)), 0xFF)


def alaw(samples):
    def level(exponent, mantissa):
        return 8 * (2 * mantissa + 1 if exponent == 0 else (2 * mantissa + 33) << (exponent - 1))

    return nearest(samples, levels(level), 0x55 ^ 0x80)


def levels(level):
    return [level(exponent, mantissa) for exponent in range(8) for mantissa in range(16)]


def nearest(samples, positive, inverted):
    """Codes of the nearest levels, and those levels as the model gets them."""
    table = np.array(positive + [-level for level in positive])
    place = np.abs(samples.astype(np.int64)[:, None] - table).argmin(axis=1)
    return (place.astype(np.uint8) ^ inverted).tobytes(), (table[place] / 32768).astype(np.float32)


def encoded(encoding, samples):
    """The bytes to send, and the signal that they stand for."""
    if encoding == "mulaw":
        return mulaw(samples)
    if encoding == "alaw":
        return alaw(samples)
    signal = samples / np.float32(32768)
    if encoding == "f32le":
        # What 16 bits cannot say.
        signal = (signal * np.float32(0.7)).astype(np.float32)
        return signal.astype("<f4").tobytes(), signal
    return samples.astype({"pcm_s16le": "<i2", "pcm_s16be": ">i2"}[encoding]).tobytes(), signal


@pytest.mark.parametrize("encoding", ["pcm_s16le", "pcm_s16be", "f32le", "mulaw", "alaw"])
def test_encodings(server, talk, silero, encoding):
    data, signal = encoded(encoding, recording(3))
    results, flushed = talk(told(server, pieces(data, 3), f"&encoding={encoding}"))
    # A-law has no zero, and its silence is its lowest level.
    expected = Expected(silero, signal, silence=8 / 32768 if encoding == "alaw" else 0)
    expected.check(results)
    assert events(flushed) == expected.rest()
    assert expected.times


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("seed", [4, 5, 6])
def test_other_rates(server, talk, silero, rate, seed):
    """Where speech begins and ends moves by less than two windows."""
    # What 8 kHz cannot carry would be missing there and not here.
    narrow = resample(resample(recording(seed) / 32768, RATE, 8000), 8000, RATE) if rate == 8000 else None
    samples = recording(seed) if narrow is None else np.round(narrow * 32767).astype("<i2")
    expected = Expected(silero, samples)
    results, flushed = talk(told(server, pieces(recording(seed, rate).tobytes(), seed), f"&sample_rate={rate}"))

    got = [event for message in [*results, flushed] for event in message.get("events", [])]
    want = [item for event in [*expected.events, expected.rest()] for item in event.items()]
    assert [event["type"] for event in got] == [f"speech_{kind}" for kind, _ in want]
    apart = [abs(event["at_ms"] - at * 1000 / RATE) for event, (_, at) in zip(got, want)]
    assert len(apart) >= 4 and max(apart) <= 60, apart
    assert abs(len(results) - len(expected.probabilities)) <= 1


def test_a_reset_forgets_the_signal_and_not_the_count(server, talk, silero):
    """What was sent before is answered; the rest of a window, and speech that goes on, end without a word."""
    spoken, other = recording(7), recording(8)
    # Into the middle of speech, the middle of a window, and the middle of a sample.
    expected = Expected(silero, spoken)
    cut = 2 * (expected.times[0] + 7000) + 1
    before = len(spoken.tobytes()[:cut]) // 2 // WINDOW

    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false")) as socket:
            messages = [spoken.tobytes()[:cut], RESET, *pieces(other.tobytes(), 8), CLOSE]
            sending = asyncio.create_task(send_all(socket, messages))
            results, reset = await until(socket, "reset")
            assert reset == {"type": "reset"}
            assert len(results) == before and events(results[-1]) == {}
            got = np.array([result["probability"] for result in results], np.float32)
            assert np.abs(got - expected.probabilities[:before]).max() <= ROUNDING
            assert [events(result) for result in results] == expected.events[:before]
            again, _ = await until(socket, "flushed")
            Expected(silero, other).check(again, first=before)
            await sending

    talk(main())


def test_a_flush_is_silence_up_to_the_window(server, talk, silero):
    """And the stream goes on behind it, with the state and the context it has."""
    one, two = recording(9)[: 20 * WINDOW + 100], recording(9)[20 * WINDOW + 100 :]
    padded = np.concatenate([one, np.zeros(WINDOW - 100, "<i2"), two])
    expected = Expected(silero, padded)

    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false")) as socket:
            await send_all(socket, [FLUSH, one.tobytes(), FLUSH, FLUSH])
            assert await until(socket, "flushed") == ([], {"type": "flushed"})
            results, _ = await until(socket, "flushed")
            assert len(results) == 21
            assert await until(socket, "flushed") == ([], {"type": "flushed"})
            sending = asyncio.create_task(send_all(socket, [two.tobytes(), CLOSE]))
            more, _ = await until(socket, "flushed")
            await sending
            results += more
            got = np.array([result["probability"] for result in results], np.float32)
            assert np.abs(got - expected.probabilities).max() <= ROUNDING

    talk(main())


@pytest.mark.parametrize(
    "query", ["encoding=mp3", "encoding=", "sample_rate=0", "sample_rate=fast", "sample_rate=16001", "sample_rate=-8000"]
)
def test_what_cannot_be_is_refused_before_the_upgrade(server, query):
    request = urllib.request.Request(
        server.http(f"{STREAM}?{query}"),
        headers={
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        },
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    assert (refused.value.code, json.load(refused.value)["code"]) == (400, "unsupported_parameter")


def test_text_that_is_no_control(server, talk, silero):
    """Is answered in its turn, and nothing else changes."""
    data = recording(10).tobytes()
    strange = ["flush", "{}", '{"type":"begin"}', '{"type":7}', "[]", ""]

    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false")) as socket:
            chunks = list(pieces(data, 10))
            at = len(chunks) // 2
            sending = asyncio.create_task(send_all(socket, [*chunks[:at], *strange, *chunks[at:], CLOSE]))
            results, refused = [], 0
            while (message := json.loads(await socket.recv()))["type"] != "flushed":
                if message["type"] == "result":
                    results.append(message)
                    continue
                assert (message["type"], message["code"], message["retryable"]) == ("error", "unknown_control", False)
                assert len(results) == len(b"".join(chunks[:at])) // 2 // WINDOW
                refused += 1
            await sending
            assert refused == len(strange)
            Expected(silero, recording(10)).check(results)

    talk(main())
