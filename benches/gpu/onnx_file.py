"""Writes ONNX files with nothing but Python's own library: as much of the format as `models.py` needs.

A machine to be measured may have no package of Python's, and half a gigabyte of random weights is made there faster than
it is carried.
"""

import random
import struct
from array import array

FLOAT, INT64, FLOAT16 = 1, 7, 10
SIZES = {FLOAT: 4, INT64: 8, FLOAT16: 2}
IR_VERSION, OPSET = 8, 17

# A prime, so that no row of a matrix begins where another does.
POOL = 262_147


def varint(number):
    number &= (1 << 64) - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, value):
    """One field of a message: a whole number, a float, text, or bytes."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*fields):
    return b"".join(field(number, value) for number, value in fields)


def attribute(name, value):
    if isinstance(value, float):
        return message((1, name), (2, value), (20, 1))
    if isinstance(value, int):
        return message((1, name), (3, value), (20, 2))
    return message((1, name), *((8, each) for each in value), (20, 7))


def value_info(name, datatype, shape):
    """A dimension given by name is dynamic."""
    dims = (message((1, message((2 if isinstance(dim, str) else 1, dim)))) for dim in shape)
    return message((1, name), (2, message((1, message((1, datatype), (2, b"".join(dims)))))))


class Graph:
    """A graph in the making; weights follow from the seed."""

    def __init__(self, datatype=FLOAT, seed=1):
        self.datatype = datatype
        self.nodes, self.initializers, self.ends = [], [], []
        self.names = 0
        source = random.Random(seed)
        self.normal = [source.gauss(0, 1) for _ in range(POOL)]
        self.pools = {}

    def name(self, prefix):
        self.names += 1
        return f"{prefix}{self.names}"

    def input(self, name, datatype, shape):
        self.ends.append(field(11, value_info(name, datatype, shape)))
        return name

    def output(self, name, datatype, shape):
        self.ends.append(field(12, value_info(name, datatype, shape)))

    def tensor(self, shape, datatype, raw):
        name = self.name("w")
        dims = b"".join(varint(dim) for dim in shape)
        head = message((1, dims), (2, datatype), (8, name))
        # Without another copy of what may be a hundred megabytes.
        body = varint(9 << 3 | 2) + varint(len(raw))
        length = len(head) + len(body) + len(raw)
        self.initializers += [varint(5 << 3 | 2) + varint(length), head, body, raw]
        return name

    def weight(self, shape, scale, about=0.0):
        """Random numbers about `about`, `scale` wide."""
        datatype = self.datatype
        pool = self.pools.get((scale, about))
        if pool is None:
            scaled = [value * scale + about for value in self.normal]
            pool = struct.pack(f"<{POOL}e", *scaled) if datatype == FLOAT16 else array("f", scaled).tobytes()
            self.pools[scale, about] = pool
        count = 1
        for dim in shape:
            count *= dim
        size = SIZES[datatype]
        start = len(self.initializers) * 7919 % POOL
        raw = (pool * (1 + (start + count) // POOL))[start * size : (start + count) * size]
        return self.tensor(shape, datatype, raw)

    def numbers(self, *values):
        return self.tensor([len(values)], INT64, struct.pack(f"<{len(values)}q", *values))

    def scalar(self, value):
        return self.tensor([], self.datatype, struct.pack("<e" if self.datatype == FLOAT16 else "<f", value))

    def node(self, op, *inputs, output=None, **attributes):
        output = output or self.name("t")
        ends = [(1, name) for name in inputs] + [(2, output), (4, op)]
        made = message(*ends, *((5, attribute(*each)) for each in attributes.items()))
        self.nodes.append(field(1, made))
        return output

    def write(self, path):
        chunks = [*self.nodes, field(2, "graph"), *self.initializers, *self.ends]
        head = message((1, IR_VERSION), (2, "thalweg"), (8, message((1, ""), (2, OPSET))))
        length = sum(len(chunk) for chunk in chunks)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            file.write(head + varint(7 << 3 | 2) + varint(length))
            file.writelines(chunks)
