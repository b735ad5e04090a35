"""Triton's own HTTP client, unmodified, finds here what it finds there."""

import asyncio

import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from ml_dtypes import bfloat16
from tritonclient.utils import InferenceServerException
from wire import DATATYPES, DTYPES


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(server.address, connection_timeout=60, network_timeout=60) as client:
        yield client


def given(name, array, binary=True):
    tensor = triton.InferInput(name, list(array.shape), DATATYPES[array.dtype])
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def extremes(datatype):
    """Three rows that reach the ends of what a datatype can say, and that JSON can carry."""
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        values = ["", "a", "né", "\u4e16\u754c", 'quote " and \\', "line\nbreak", "\0", "\U0001f30a", "x" * 5000]
    elif datatype == "BOOL":
        values = [True, False, False] * 3
    elif dtype.kind in "iu":
        info = np.iinfo(dtype)
        values = [info.min, info.max, 0, 1, info.max - 1, info.min + 1, 2, 3, info.max // 3]
    else:
        tiny, largest, eps = {
            "FP16": (6e-8, 65504, 2**-10),
            "FP32": (1e-45, 3.4028235e38, 2**-23),
            "FP64": (5e-324, 1.7976931348623157e308, 2**-52),
            "BF16": (1e-40, 3.3895314e38, 2**-7),
        }[datatype]
        values = [0.0, -0.0, 1 / 3, -1.0, 1 + eps, tiny, -tiny, largest, -largest]
    return np.array(values, dtype).reshape(3, 3)


def same(a, b):
    """Equal to the last bit; texts as their UTF-8."""
    if a.dtype == object:
        a, b = ([e.encode() if isinstance(e, str) else e for e in array.flat] for array in (a, b))
        return a == b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("mlp64")
    assert client.is_model_ready("mlp64", "1")
    assert not client.is_model_ready("mlp64", "2")
    assert not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert server["name"] == "thalweg"
    assert server["version"]
    assert "binary_tensor_data" in server["extensions"]


def test_model_metadata(client):
    model = client.get_model_metadata("accumulator_axis1")
    assert (model["name"], model["versions"]) == ("accumulator_axis1", ["1"])
    tensors = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in model["inputs"] + model["outputs"]}
    state = ("FP32", [2, -1, 4])
    assert tensors == {"x": ("FP32", [-1, 4]), "state": state, "y": state, "state_out": state}
    fixed = client.get_model_metadata("fixed_batch")
    assert fixed["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [3, 4]}]


def test_model_config(client):
    assert client.get_model_config("mlp64")["max_batch_size"] == 64
    assert client.get_model_config("fixed_batch")["max_batch_size"] == 0


def test_statistics_count_what_was_inferred(client):
    def inferences():
        [stats] = client.get_inference_statistics("add_fp32")["model_stats"]
        assert (stats["name"], stats["version"]) == ("add_fp32", "1")
        return stats["inference_count"]

    before = inferences()
    row = np.ones((3, 16), np.float32)
    client.infer("add_fp32", [given("A", row), given("B", row)])
    assert inferences() == before + 3


@pytest.mark.parametrize("binary_out", [True, False], ids=["binary_out", "json_out"])
@pytest.mark.parametrize("binary_in", [True, False], ids=["binary_in", "json_in"])
@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_both_ways(client, datatype, binary_in, binary_out):
    x = extremes(datatype)
    if datatype == "BF16" and not binary_in:
        with pytest.raises(InferenceServerException, match="must be sent as binary data"):
            given("INPUT0", x, binary_in)
        return
    inputs = [given("INPUT0", x, binary_in)]
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary_out)]
    result = client.infer(f"identity_{datatype.lower()}", inputs, outputs=outputs, request_id="some id")
    assert same(result.as_numpy("OUTPUT0"), x)
    assert result.get_response()["id"] == "some id"
    assert ("parameters" in result.get_output("OUTPUT0")) == binary_out


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64", "BF16"])
def test_binary_tensors_carry_what_json_cannot(client, datatype):
    x = np.array([[np.nan, np.inf, -np.inf]], DTYPES[datatype])
    result = client.infer(f"identity_{datatype.lower()}", [given("INPUT0", x)])
    assert same(result.as_numpy("OUTPUT0"), x)


def test_bytes_need_not_be_text(client):
    x = np.array([[bytes(range(256)), b"\xff", b""]], object)
    assert same(client.infer("identity_bytes", [given("INPUT0", x)]).as_numpy("OUTPUT0"), x)


def everything():
    return {datatype: extremes(datatype)[:, : 1 + at % 3] for at, datatype in enumerate(DTYPES)}


def test_many_inputs_of_many_lengths_at_once(client):
    x = everything()
    result = client.infer("identity_all", [given(f"IN_{datatype}", array) for datatype, array in x.items()])
    for datatype, array in x.items():
        assert same(result.as_numpy(f"OUT_{datatype}"), array), datatype


def test_only_the_requested_outputs_are_sent(client):
    x = everything()
    inputs = [given(f"IN_{datatype}", array, binary=at % 2 == 0 or datatype == "BF16")
              for at, (datatype, array) in enumerate(x.items())]
    outputs = [triton.InferRequestedOutput("OUT_BYTES", binary_data=False), triton.InferRequestedOutput("OUT_FP32")]
    result = client.infer("identity_all", inputs, outputs=outputs)
    assert [output["name"] for output in result.get_response()["outputs"]] == ["OUT_BYTES", "OUT_FP32"]
    assert same(result.as_numpy("OUT_BYTES"), x["BYTES"])
    assert same(result.as_numpy("OUT_FP32"), x["FP32"])


@pytest.mark.parametrize("binary", [True, False])
def test_classification(client, reference, binary):
    x = np.random.default_rng(3).standard_normal((5, 64), np.float32)
    outputs = [triton.InferRequestedOutput("y", binary_data=binary, class_count=3)]
    classes = client.infer("mlp64", [given("x", x)], outputs=outputs).as_numpy("y")
    assert classes.shape == (5, 3)
    for row, want in zip(classes, reference("mlp64")({"x": x})["y"]):
        texts = [text.decode() if isinstance(text, bytes) else text for text in row]
        values, indices = zip(*((float(value), int(index)) for value, index in (text.split(":")[:2] for text in texts)))
        assert list(indices) == list(np.argsort(-want, kind="stable")[:3])
        assert np.allclose(values, want[list(indices)], rtol=1e-5, atol=1e-5)


def test_no_batch_axis(client):
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert same(client.infer("fixed_batch", [given("x", x)]).as_numpy("y"), x + 1)


def test_text(client):
    x = np.array([["to be"], ["or not"]], object)
    assert same(client.infer("dynamic_text", [given("text", x)]).as_numpy("same"), x)


def test_lengths_that_cannot_share_a_batch(server):
    async def main():
        async with triton_aio.InferenceServerClient(server.address) as client:
            inputs = [np.ones((1 + n % 3, n), np.float32) for n in range(1, 40)]
            results = await asyncio.gather(*(client.infer("sequence_length", [given("x", x)]) for x in inputs))
        for x, result in zip(inputs, results):
            assert same(result.as_numpy("sum"), x.sum(axis=1, keepdims=True))

    asyncio.run(main())


ROW = np.zeros((1, 64), np.float32)


@pytest.mark.parametrize(
    ("model", "inputs", "status", "message"),
    [
        ("nobody", [given("x", ROW)], 404, "nobody"),
        ("mlp64", [], 400, "x"),
        ("mlp64", [given("z", ROW)], 400, "z"),
        ("mlp64", [given("x", ROW), given("x", ROW)], 400, "x"),
        ("mlp64", [given("x", ROW[:, :63])], 400, "63"),
        ("mlp64", [given("x", ROW[0])], 400, "dimensions"),
        ("mlp64", [given("x", ROW.astype(np.float64))], 400, "FP64"),
        ("mlp64", [given("x", np.zeros((65, 64), np.float32))], 400, "65"),
        ("fixed_batch", [given("x", np.zeros((2, 4), np.float32))], 400, "2"),
        ("poison", [given("x", np.full((1, 4), 666, np.float32))], 500, ""),
    ],
    ids=["unknown_model", "missing_input", "unknown_input", "input_twice", "wrong_shape", "wrong_rank",
         "wrong_datatype", "batch_too_large", "wrong_fixed_shape", "model_fails"],
)
def test_errors_arrive_as_the_clients_own(client, model, inputs, status, message):
    with pytest.raises(InferenceServerException) as raised:
        client.infer(model, inputs)
    assert raised.value.status() == str(status)
    assert message in raised.value.message()
    assert "exception occurred in the client" not in raised.value.message(), "the client could not read our error"


def test_unknown_output(client):
    with pytest.raises(InferenceServerException, match="nothing") as raised:
        client.infer("mlp64", [given("x", ROW)], outputs=[triton.InferRequestedOutput("nothing")])
    assert raised.value.status() == "400"


def test_what_json_cannot_carry_is_an_error_and_binary_is_not(client):
    zero = given("x", np.zeros((1, 4), np.float32))
    with pytest.raises(InferenceServerException, match="(?i)nan|json") as raised:
        client.infer("nan", [zero], outputs=[triton.InferRequestedOutput("y", binary_data=False)])
    assert raised.value.status() == "400"
    assert np.isnan(client.infer("nan", [zero]).as_numpy("y")).all()


def crowd(server, count, **options):
    """Asks the slow model for many things at once; what came of each: "right", or an error's status."""

    async def ask(client, number):
        x = np.full((1, 4), number, np.float32)
        try:
            result = await client.infer("slow", [given("x", x)], **options)
        except InferenceServerException as error:
            return error.status()
        return "right" if same(result.as_numpy("y"), x) else "wrong"

    async def main():
        async with triton_aio.InferenceServerClient(server.address, conn_limit=count) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(count)))

    return set(asyncio.run(main()))


def test_a_full_queue_turns_requests_away(server):
    assert crowd(server, 64) == {"right", "503"}


def test_what_waits_beyond_its_timeout_is_not_run(server):
    outcomes = crowd(server, 64, timeout=1)
    assert "504" in outcomes and outcomes <= {"right", "503", "504"}


def test_bfloat16_is_numpys(client):
    x = np.array([[1.5, -2]], bfloat16)
    assert client.infer("identity_bf16", [given("INPUT0", x)]).as_numpy("OUTPUT0").dtype == bfloat16
