"""The examples do what they say."""

import subprocess
import sys
import wave

import pytest
from conftest import ROOT
from silero import RATE, Silero
from speech import recording

SPEECH = ROOT / "examples/speech.py"
STREAM = "/v2/models/silero_vad/stream"


def listen(server, *arguments, **options):
    command = [sys.executable, SPEECH, "--url", server.ws(STREAM), *arguments]
    return subprocess.run(command, capture_output=True, timeout=60, **options)


def save(path, samples, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return path


@pytest.fixture(scope="module")
def shown():
    """What is to be printed, by the package's own iterator."""
    silero = Silero()
    lines, start = [], None
    for event in silero.events(silero.probabilities(recording(0) / 32768)):
        for kind, at in event.items():
            seconds = at / RATE
            if kind == "start":
                start = seconds
                lines.append(f"{seconds:8.2f} s  speech\n")
            else:
                lines.append(f"{seconds:8.2f} s  silence, after {seconds - start:.2f} s\n")
    assert len(lines) == 4
    return "".join(lines)


@pytest.mark.parametrize("pace", [["--fast"], []], ids=["fast", "in_real_time"])
def test_speech_in_a_file(server, tmp_path, shown, pace):
    done = listen(server, *pace, save(tmp_path / "speech.wav", recording(0)))
    assert (done.stderr, done.stdout.decode()) == (b"", shown)


def test_speech_in_a_pipe(server, shown):
    done = listen(server, "-", input=recording(0).tobytes())
    assert (done.stderr, done.stdout.decode()) == (b"", shown)


def test_speech_at_another_rate(server, tmp_path, shown):
    done = listen(server, "--fast", save(tmp_path / "speech.wav", recording(0, 44100), 44100))
    words = lambda text: [line.split()[2] for line in text.splitlines()]
    assert (done.stderr, words(done.stdout.decode())) == (b"", words(shown))


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--rate", "1", "-"], b"speech.py: sample rates are 1000 to 768000 Hz, not 1\n"),
        (["nowhere.wav"], b"speech.py: [Errno 2] No such file or directory: 'nowhere.wav'\n"),
    ],
)
def test_what_fails_says_why(server, arguments, why):
    done = listen(server, *arguments, input=b"")
    assert (done.returncode, done.stderr) == (1, why)
