#!/usr/bin/env python3
"""What honest clients notice of attacks: `attacks.py [--seconds 10] [ATTACK…]`.

A hundred real-time streams of Silero VAD, each answer checked, before, during and after each attack of
`clients/attackers.py`. It fails if an answer is lost or wrong, if memory stays, or if attackers are not ended as the
protocol says. Times are told and not judged: they are the machine's, too.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).parent / "clients"))
from attackers import ATTACKS, Attackers
from conftest import ROOT, running
from honest import TICK, Figures, open_streams, speak

STREAMS = 100
# Bytes of a message: as much as attackers may claim.
LIMIT = 64 << 20
# So that who draws things out is let go within a phase.
TIMEOUT = 3
FLAGS = [
    "--threads", "1", "--max-message-size", str(LIMIT),
    *(word for name in ("request", "read", "write") for word in (f"--{name}-timeout", str(TIMEOUT))),
]
MODELS = [ROOT / "models/silero_vad", ROOT / "tests/models/repository/mlp64"]
# Before the first attack, so that what is taken once is not taken for growth.
WARM_UP = 3
# How often memory is looked at, in seconds.
LOOK = 0.05
# A client this busy, or this late at sending, is what limits the figures.
BUSY, LATE = 0.8, TICK / 8


# Bytes more than before, after which an attack is tried again: allocators keep some of the most that they had, ONNX
# Runtime's as much as all answers took that were under way at once, but they do not take it twice.
GROWTH = 64 << 20


class Phase(NamedTuple):
    figures: Figures
    # The most and the last of memory, in bytes.
    most: int
    last: int


async def phase(server, streams, seconds):
    most = 0

    async def watch():
        nonlocal most
        while True:
            most = max(most, server.resident())
            await asyncio.sleep(LOOK)

    watching = asyncio.create_task(watch())
    figures = await speak(streams, asyncio.create_task(asyncio.sleep(seconds)))
    watching.cancel()
    return Phase(figures, most, server.resident())


async def measure(server, name, seconds):
    """The row of an attack, what was wrong, and whether memory has grown."""
    streams = await open_streams(server, STREAMS)
    await speak(streams, asyncio.create_task(asyncio.sleep(WARM_UP)))
    attackers = await Attackers.prepare(server, LIMIT, name)
    before = await phase(server, streams, seconds)
    attackers.begin()
    during = await phase(server, streams, seconds)
    attackers.stop()
    got = await attackers.ends()
    after = await phase(server, streams, seconds)
    for stream in streams:
        stream.leave()

    phases = [before, during, after]
    answers, lost = (sum(getattr(phase.figures, what) for phase in phases) for what in ("answers", "lost"))
    wrong = ATTACKS[name].complaints(got)
    wrong += [f"{count} streams: {why}" for why, count in Counter(after.figures.wrong).items()]
    limits = [phase.figures for phase in phases if phase.figures.busy > BUSY or phase.figures.late > LATE]
    if limits:
        print(f"{name}: the client was the limit: {max(limit.busy for limit in limits):.0%} busy,"
              f" {max(limit.late for limit in limits) * 1e3:.0f} ms late", file=sys.stderr)
    ends = ", ".join(f"{end}: {count:,}" for end, count in got.items())
    across = lambda values: " / ".join(f"{value:.3g}" for value in values)
    row = [
        f"{name.replace('_', ' ')}, {ATTACKS[name].at_once}", ends, f"{answers:,} ({lost:,})",
        across(phase.figures.p50 * 1e3 for phase in phases), across(phase.figures.p99 * 1e3 for phase in phases),
        across(value / 2**20 for value in (before.last, during.most, after.last)),
    ]
    return row, wrong, after.last > before.last + GROWTH


def table(rows):
    head = [
        f"attack, attackers at once (time-outs {TIMEOUT} s, messages of {LIMIT >> 20} MiB)", "how they ended",
        "honest answers (lost)", "p50, ms: before / during / after", "p99, ms", "resident memory, MiB: before / most / after",
    ]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def pin(core):
    """This process, and what it starts from now on."""
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), {core})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help=f"for each phase, more than {TIMEOUT}")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"all, or some of: {', '.join(ATTACKS)}")
    options = parser.parse_args()
    if options.seconds <= TIMEOUT or not ATTACKS.keys() >= set(options.attacks):
        parser.error("no such attack" if options.seconds > TIMEOUT else "too short for those who draw things out")

    rows, wrong = [], {}
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        for model in MODELS:
            assert model.exists(), f"there is no {model}: `thalweg models fetch` and tests/models/make_models.py"
            (Path(folder) / model.name).symlink_to(model)
        pin(cores[0])
        with running(folder, flags=FLAGS) as server:
            # Where there are two cores, clients have one of their own.
            pin(cores[1 % len(cores)])
            for name in options.attacks or ATTACKS:
                wrong[name] = []
                for _ in range(2):
                    row, complaints, grown = asyncio.run(measure(server, name, options.seconds))
                    print(" | ".join(row), file=sys.stderr, flush=True)
                    rows.append(row)
                    wrong[name] += complaints
                    if not grown:
                        break
                else:
                    wrong[name].append("memory grows with each round")
    print(table(rows))
    for name, complaints in wrong.items():
        for complaint in complaints:
            print(f"{name}: {complaint}")
    sys.exit(any(wrong.values()))


if __name__ == "__main__":
    main()
