"""Sequences over HTTP by Triton's own client: the server keeps the state between requests."""

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

ROWS = 512 + 64


def step(client, row, **sequence):
    audio = triton.InferInput("input", [1, ROWS], "FP32").set_data_from_numpy(row)
    return client.infer("silero_vad", [audio], **sequence).as_numpy("output")[0, 0]


@pytest.fixture
def client(server):
    return triton.InferenceServerClient(server.address)


def wanted(reference, rows):
    """The same steps by ONNX Runtime, the state handed on by hand."""
    state, results = np.zeros((2, 1, 128), np.float32), []
    for row in rows:
        outputs = reference("silero_vad")({"input": row, "state": state, "sr": np.array(16000, np.int64)})
        state = outputs["stateN"]
        results.append(outputs["output"][0, 0])
    return results


@pytest.mark.parametrize("ids", [(1, 2), ("one", "two")])
def test_sequences_keep_their_own_state(client, reference, ids):
    random = np.random.default_rng(7)
    rows = {id: [random.standard_normal((1, ROWS), np.float32) / 4 for _ in range(6)] for id in ids}
    got = {id: [] for id in ids}
    for at in range(6):
        for id in ids:
            flags = {"sequence_start": at == 0, "sequence_end": at == 5}
            got[id].append(step(client, rows[id][at], sequence_id=id, **flags))
    for id in ids:
        np.testing.assert_allclose(got[id], wanted(reference, rows[id]), atol=1e-6, rtol=0)


def test_the_rules_of_sequences(client):
    row = np.ones((1, ROWS), np.float32) / 8
    with pytest.raises(InferenceServerException, match="sequence_start"):
        step(client, row, sequence_id=77)
    with pytest.raises(InferenceServerException, match="needs a sequence_id"):
        step(client, row)
    first = step(client, row, sequence_id=77, sequence_start=True)
    assert step(client, row, sequence_id=77) != first, "the second step has the first one's state"
    assert step(client, row, sequence_id=77, sequence_start=True) == first, "a second start begins anew"
    step(client, row, sequence_id=77, sequence_end=True)
    with pytest.raises(InferenceServerException, match="sequence_start"):
        step(client, row, sequence_id=77)
