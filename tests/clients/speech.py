"""Speech to test with: espeak-ng reads sentences, with pauses between them."""

import io
import random
import subprocess
import wave
from functools import cache

import numpy as np
from conftest import ROOT

SENTENCES = {
    "en": ["The river flows past the old mill", "It never sleeps", "A heron waits on a stone", "Nobody hurries"],
    "de": ["Der Fluss trägt Kies ins Tal", "Am Ufer steht ein Boot", "Es regnet seit gestern"],
    "fr": ["La rivière descend vers la mer", "Les pêcheurs attendent", "Le pont est fermé"],
    "es": ["El agua baja de la montaña", "Nadie cruza el puente", "Mañana habrá sol"],
}
VARIANTS = ["", "+m2", "+m5", "+f1", "+f3"]


@cache
def espeak():
    """The program; installs it where it may."""
    return subprocess.run([ROOT / "tests/find_speech"], check=True, capture_output=True, text=True).stdout.strip()


def say(text, voice, speed, pitch):
    """Samples, and how many there are a second."""
    command = [espeak(), "--stdout", "-v", voice, "-s", str(speed), "-p", str(pitch), text]
    spoken = subprocess.run(command, check=True, capture_output=True).stdout
    with wave.open(io.BytesIO(spoken)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        # What is piped has no length in its head.
        return np.frombuffer(spoken[44:], "<i2").astype(np.float64) / 32768, file.getframerate()


def resample(samples, before, after):
    """By the whole signal's spectrum: exact up to half the lower rate."""
    length = round(len(samples) * after / before)
    return np.fft.irfft(np.fft.rfft(samples), length) * (length / len(samples))


@cache
def recording(seed, rate=16000):
    """A few seconds of one voice as 16-bit samples, the same at any rate: pauses, sentences, an odd length."""
    rng = random.Random(seed)
    language = rng.choice(list(SENTENCES))
    voice = language + rng.choice(VARIANTS)
    speed, pitch = rng.randint(120, 220), rng.randint(20, 80)
    parts = []
    for text in rng.sample(SENTENCES[language], 2):
        spoken, native = say(text, voice, speed, pitch)
        parts += [np.zeros(int(native * rng.uniform(0.05, 1))), spoken * rng.uniform(0.3, 0.9)]
    parts.append(np.zeros(int(native * rng.uniform(0, 1))))
    signal = np.concatenate(parts)
    # A room is never quite silent.
    signal += np.random.default_rng(seed).standard_normal(len(signal)) / 3000
    return np.clip(np.round(resample(signal, native, rate) * 32768), -32768, 32767).astype("<i2")


def pieces(data, seed):
    """The bytes, cut anywhere: some pieces are empty, many are odd, some hold several windows."""
    rng, at = random.Random(seed), 0
    while at < len(data):
        size = rng.choice([0, 1, 3, 333, 1023, 1024, 1025, rng.randint(1, 9000)])
        yield data[at : at + size]
        at += size
