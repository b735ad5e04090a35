"""Conversions before the model and reductions behind it, as clients see them, against numpy and ONNX Runtime."""

import asyncio
import json
import urllib.request

import numpy as np
import pytest
from ml_dtypes import bfloat16
from websockets.asyncio.client import connect
from wire import answer, binary_request, text_request

MEAN, DEVIATION = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])

# What a client sends, and what the model then takes. Products are exact, and so the sum is rounded once.
CONVERSIONS = {
    "converted_uint8": (np.uint8, lambda x: x * 0.0078125 - 1.0),
    "converted_int16": (np.int16, lambda x: x / 32768),
    "converted_fp16": (np.float16, lambda x: x),
    "converted_bf16": (bfloat16, lambda x: x * float(np.float32(0.3)) + float(np.float32(0.7))),
}


def some(dtype, seed, *shape):
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return random.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return random.standard_normal(shape).astype(dtype)


def image(seed, rows=1, height=9, width=12):
    return some(np.uint8, seed, rows, height, width, 3)


def softmax(x):
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def largest(x, k):
    order = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


def ask(server, talk, model, requests):
    """All answers over one socket, in order."""

    async def main():
        async with connect(server.ws(f"/v2/models/{model}/infer")) as socket:
            for request in requests:
                await socket.send(request)
            return [answer(await socket.recv()) for _ in requests]

    return talk(main())


def post(server, model, request):
    url = server.http(f"/v2/models/{model}/infer")
    with urllib.request.urlopen(urllib.request.Request(url, request.encode()), timeout=30) as response:
        return answer(response.read().decode())


@pytest.mark.parametrize("encode", [binary_request, text_request], ids=["binary", "text"])
@pytest.mark.parametrize("model", CONVERSIONS)
def test_numbers_are_converted(server, talk, model, encode):
    dtype, convert = CONVERSIONS[model]
    sent = [some(dtype, seed, 1 + seed, 5) for seed in range(6)]
    answers = ask(server, talk, model, [encode({"INPUT0": x}) for x in sent])
    for x, (head, outputs) in zip(sent, answers):
        assert "error" not in head, head
        wanted = convert(x.astype(np.float64)).astype(np.float32)
        assert outputs["OUTPUT0"].dtype == np.float32 and np.array_equal(outputs["OUTPUT0"], wanted)


def test_another_datatype_is_refused(server, talk):
    [(head, _)] = ask(server, talk, "converted_uint8", [binary_request({"INPUT0": np.float32([[1]])})])
    assert head["code"] == "wrong_datatype" and "UINT8" in head["error"], head


def check_image(reference, sent, outputs):
    planes = ((sent / np.float32(255) - MEAN) / DEVIATION).transpose(0, 3, 1, 2)
    logits = reference("image")({"pixels": np.ascontiguousarray(planes)})["logits"]
    values, indices = largest(softmax(logits), 3)
    assert outputs["logits"].dtype == np.float32 and outputs["logits_index"].dtype == np.int32
    assert np.array_equal(outputs["logits_index"], indices)
    assert np.abs(outputs["logits"] - values).max() <= 1e-5


@pytest.mark.parametrize("encode", [binary_request, text_request], ids=["binary", "text"])
def test_images_are_classified(server, reference, talk, encode):
    sent = [image(seed, rows=1 + seed % 3, height=7 + seed % 2) for seed in range(8)]
    answers = ask(server, talk, "image", [encode({"pixels": x}) for x in sent])
    for x, (head, outputs) in zip(sent, answers):
        assert "error" not in head, head
        check_image(reference, x, outputs)


def test_images_over_http(server, reference):
    _, outputs = post(server, "image", text_request({"pixels": image(5)}))
    check_image(reference, image(5), outputs)
    only = text_request({"pixels": image(5)}, outputs=[{"name": "logits_index"}])
    assert list(post(server, "image", only)[1]) == ["logits_index"]


def test_a_crowds_images_share_batches(server, reference, talk):
    """Each client gets the classes of its own images, whatever they are batched with."""

    async def converse(client):
        async with connect(server.ws("/v2/models/image/infer")) as socket:
            for at in range(4):
                await socket.send(binary_request({"pixels": image(client * 10 + at)}))
            return [answer(await socket.recv())[1] for _ in range(4)]

    async def main():
        return await asyncio.gather(*map(converse, range(32)))

    runs_before, _ = server.batches("image")
    answers = talk(main())
    for client, mine in enumerate(answers):
        for at, outputs in enumerate(mine):
            check_image(reference, image(client * 10 + at), outputs)
    assert server.batches("image")[0] - runs_before < 32 * 4, "no batch had more than one row"


def test_every_reduction(server, talk):
    x = some(np.float32, 11, 3, 2, 7)
    x[0, 0] = [0.5, 2, 2, -1, 2, 0, 0.25]
    x[1, 1] = 0
    for encode in (binary_request, text_request):
        [(head, outputs)] = ask(server, talk, "reduced", [encode({"x": x})])
        assert "error" not in head, head
        values, indices = largest(x, 3)
        best, best_indices = largest(softmax(x), 2)
        length = np.sqrt((x.astype(np.float64) ** 2).sum(-1, keepdims=True))
        half = softmax(x.astype(np.float16).astype(np.float32))
        exact = {
            "top_k": values,
            "top_k_index": indices,
            "best_index": best_indices,
            "argmax": x.argmax(-1).astype(np.int32),
            "brain": x.astype(bfloat16).argmax(-1).astype(np.int32),
            "threshold": x >= 0.5,
            "plain": x,
        }
        close = {"softmax": softmax(x), "best": best, "half": half, "l2_norm": x / np.where(length == 0, 1, length)}
        assert outputs.keys() == exact.keys() | close.keys()
        for name, wanted in exact.items():
            assert outputs[name].dtype == wanted.dtype and np.array_equal(outputs[name], wanted), name
        for name, wanted in close.items():
            assert outputs[name].dtype == np.float32 and np.allclose(outputs[name], wanted, 1e-5, 1e-7), name


def test_metadata_and_config_show_what_clients_send(server):
    metadata = json.loads(server.get("/v2/models/image"))
    assert metadata["inputs"] == [{"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert metadata["outputs"] == [
        {"name": "logits", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "logits_index", "datatype": "INT32", "shape": [-1, 3]},
    ]
    config = json.loads(server.get("/v2/models/image/config"))
    assert [(end["data_type"], end["dims"]) for end in config["input"]] == [("TYPE_UINT8", [-1, -1, 3])]
    assert [end["data_type"] for end in config["output"]] == ["TYPE_FP32", "TYPE_INT32"]
    shapes = {end["name"]: (end["datatype"], end["shape"]) for end in json.loads(server.get("/v2/models/reduced"))["outputs"]}
    assert shapes["argmax"] == ("INT32", [-1, 2]) and shapes["threshold"] == ("BOOL", [-1, 2, 7])
