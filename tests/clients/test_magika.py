"""A stream of documents gets the labels that the magika package itself gives them."""

import asyncio
import json

import pytest
from corpus import corpus
from magika import Magika
from websockets.asyncio.client import connect

STREAM = "/v2/models/magika/stream"


@pytest.fixture(scope="module")
def labels():
    magika = Magika()
    return {name: magika.identify_bytes(content).prediction for name, content in corpus().items()}


def texts():
    """The documents that a text message can carry."""
    for name, content in corpus().items():
        try:
            yield name, content.decode()
        except UnicodeDecodeError:
            pass


def check(result, seq, prediction, tolerance=1e-4):
    assert result.get("seq") == seq, result
    # Where the document is too short to ask the model, there is no label of its own.
    got = (result["label"], result["mime_type"], result["group"], result.get("model_label", "undefined"))
    output = prediction.output
    assert got == (str(output.label), output.mime_type, output.group, str(prediction.dl.label)), result
    assert result["score"] == pytest.approx(prediction.score, abs=tolerance)


@pytest.mark.parametrize("path", [STREAM, "/v2/models/magika/versions/1/stream", "/", "/?model=magika"])
@pytest.mark.parametrize("kind", ["binary", "text"])
def test_labels_of_a_corpus(server, talk, labels, path, kind):
    documents = dict(texts()) if kind == "text" else corpus()

    async def main():
        async with connect(server.ws(path)) as socket:
            greeting = json.loads(await socket.recv())
            assert greeting["type"] == "session.created"
            for seq, (name, document) in enumerate(documents.items()):
                await socket.send(document)
                check(json.loads(await socket.recv()), seq, labels[name])

    talk(main())


def test_results_leave_in_the_order_of_their_documents(server, talk, labels):
    """Short cuts that need no model must not overtake those that do."""

    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false")) as socket:
            names = [name for name, content in corpus().items() if len(content) < 100_000]

            async def send():
                for name in names:
                    await socket.send(corpus()[name])

            sending = asyncio.create_task(send())
            for seq, name in enumerate(names):
                # Sent without waiting they run in batches, which round differently (test_onnxruntime).
                check(json.loads(await socket.recv()), seq, labels[name], tolerance=0.05)
            await sending

    talk(main())


def test_top_labels_are_the_models_own(server, talk, labels):
    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false")) as socket:
            await socket.send(corpus()["html"])
            result = json.loads(await socket.recv())
            scores = [entry["score"] for entry in result["top"]]
            assert scores == sorted(scores, reverse=True)
            assert result["top"][0] == {"label": "html", "score": result["score"]}
            assert result["description"] == labels["html"].output.description

    talk(main())


def test_a_document_in_fragments_is_one_document(server, talk, labels):
    content = corpus()["html_large"].decode()

    async def main():
        async with connect(server.ws(f"{STREAM}?greeting=false")) as socket:
            await socket.send([content[at : at + 1000] for at in range(0, len(content), 1000)])
            check(json.loads(await socket.recv()), 0, labels["html_large"])

    talk(main())
