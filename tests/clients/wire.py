"""The wire as a client sees it: OIP messages with numpy arrays, and a bare socket for bad manners."""

import asyncio
import base64
import json
import os
import struct

import numpy as np
from ml_dtypes import bfloat16

DTYPES = {
    "BOOL": np.dtype(bool),
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}") for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BF16": np.dtype(bfloat16),
    "BYTES": np.dtype(object),
}
DATATYPES = {dtype: name for name, dtype in DTYPES.items()}


def tensor_bytes(array):
    """The elements as a binary tensor carries them."""
    if array.dtype != object:
        return array.tobytes()
    elements = [element.encode() if isinstance(element, str) else element for element in array.flat]
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


def tensor_from_bytes(data, datatype, shape):
    if datatype != "BYTES":
        return np.frombuffer(data, DTYPES[datatype]).reshape(shape)
    elements = []
    while data:
        end = 4 + struct.unpack_from("<I", data)[0]
        elements.append(data[4:end])
        data = data[end:]
    array = np.empty(len(elements), object)
    array[:] = elements
    return array.reshape(shape)


def frame(header, tail=b""):
    """A binary message: the length of the JSON header, the header, the tensors."""
    if not isinstance(header, bytes):
        header = json.dumps(header).encode()
    return struct.pack("<I", len(header)) + header + tail


def binary_request(inputs, **fields):
    """An inference request as a binary message; `inputs` are arrays by name."""
    tensors = {name: tensor_bytes(array) for name, array in inputs.items()}
    described = [
        {**describe(name, array), "parameters": {"binary_data_size": len(tensors[name])}}
        for name, array in inputs.items()
    ]
    return frame({"inputs": described, **fields}, b"".join(tensors.values()))


def text_request(inputs, **fields):
    """An inference request as a text message."""
    described = [{**describe(name, array), "data": array.tolist()} for name, array in inputs.items()]
    return json.dumps({"inputs": described, **fields})


def describe(name, array):
    return {"name": name, "shape": list(array.shape), "datatype": DATATYPES[array.dtype]}


def answer(message, tensors="outputs"):
    """The JSON of a message of either kind, and its tensors as arrays by name."""
    if isinstance(message, str):
        head, tail = json.loads(message), b""
    else:
        start = 4 + struct.unpack_from("<I", message)[0]
        head, tail = json.loads(message[4:start]), message[start:]
    outputs = {}
    for output in head.get(tensors, []):
        datatype, shape = output["datatype"], output["shape"]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs[output["name"]] = np.array(output["data"], DTYPES[datatype]).reshape(shape)
        else:
            assert size <= len(tail), f"{output['name']} claims {size} bytes, {len(tail)} are left"
            outputs[output["name"]] = tensor_from_bytes(tail[:size], datatype, shape)
            tail = tail[size:]
    assert not tail, f"{len(tail)} bytes belong to no output"
    return head, outputs


TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def handshake(host, port, path):
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )


def client_frame(opcode, payload=b"", *, fin=True, reserved=0, masked=True, claim=None):
    """One frame; `claim` is the length its header states, where that is not the truth."""
    length = len(payload) if claim is None else claim
    head = bytes([fin << 7 | reserved << 4 | opcode])
    mask_bit = masked << 7
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 1 << 16:
        head += struct.pack(">BH", mask_bit | 126, length)
    else:
        head += struct.pack(">BQ", mask_bit | 127, length)
    # A mask of zeros leaves the payload as it is.
    return head + (bytes(4) if masked else b"") + payload


class RawSocket:
    """A WebSocket client that can break the rules, which no library lets one do."""

    @classmethod
    async def connect(cls, host, port, path):
        self = cls()
        self.reader, self.writer = await asyncio.open_connection(host, port)
        self.writer.write(handshake(host, port, path))
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        return self

    def send(self, opcode, payload=b"", **how):
        """Queues one frame, as `client_frame` makes it."""
        self.writer.write(client_frame(opcode, payload, **how))

    async def receive(self):
        """The next frame's opcode and payload."""
        first, length = await self.reader.readexactly(2)
        assert length < 128, "a server's frames are not masked"
        if length >= 126:
            length = int.from_bytes(await self.reader.readexactly(2 if length == 126 else 8))
        return first & 0xF, await self.reader.readexactly(length)

    async def until_close(self):
        """What the server says up to its close frame, and that frame's code."""
        said = []
        while True:
            opcode, payload = await self.receive()
            if opcode == CLOSE:
                return said, int.from_bytes(payload[:2])
            if opcode in (TEXT, BINARY):
                said.append(answer(payload.decode() if opcode == TEXT else payload)[0])

    def abort(self):
        """Drops the connection without a word."""
        self.writer.transport.abort()
