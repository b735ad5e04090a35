"""Attacks on a server that has honest streams: those lose nothing, and attackers are ended as the protocol says.

`make attacks` is the same for longer, with a hundred streams and a table.
"""

import asyncio

import pytest
from attackers import ATTACKS, Attackers
from conftest import ROOT, running
from honest import open_streams, speak

HONEST = 8
# Lives of each attacker: those whose end is a time-out, or much work, have one.
ONE_LIFE = {
    "claims_the_largest_message_and_sends_slowly", "draws_out_its_handshake", "draws_out_its_message", "reads_nothing",
    "floods_another_model", "floods_with_malformed_requests",
}
LIMIT = 1 << 20
FLAGS = ["--max-message-size", str(LIMIT), *"--request-timeout 2 --read-timeout 2 --write-timeout 1".split()]


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for model in (ROOT / "models/silero_vad", ROOT / "tests/models/repository/mlp64"):
        (folder / model.name).symlink_to(model)
    with running(folder, flags=FLAGS) as server:
        yield server


@pytest.mark.parametrize("name", ATTACKS)
def test_honest_streams_lose_nothing(attacked, talk, name):
    async def main():
        streams = await open_streams(attacked, HONEST)
        attackers = await Attackers.prepare(attacked, LIMIT, name, 1 if name in ONE_LIFE else 2)
        attackers.begin()
        ended = asyncio.create_task(attackers.ends())
        figures = await speak(streams, ended)
        for stream in streams:
            stream.leave()
        return figures, await ended

    figures, got = talk(main())
    assert (figures.lost, figures.wrong) == (0, [])
    assert figures.answers > 0
    assert ATTACKS[name].complaints(got) == []
