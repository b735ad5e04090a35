"""Thalweg's wire, as much of it as the peers need: one row of mlp64 in and out, and a stream's results.

The same bytes as Thalweg's, so that one client measures all. Cheaper than a general decoder would be, in the peers' favour.
"""

import orjson

ROW = 64 * 4  # FP32
ANSWER = (
    b'{"model_name":"mlp64","model_version":"1","id":"%s","outputs":'
    b'[{"name":"y","datatype":"FP32","shape":[1,64],"parameters":{"binary_data_size":256}}]}'
)


def split(message):
    """A WebSocket's message: the length of the JSON, the JSON, the row."""
    end = 4 + int.from_bytes(message[:4], "little")
    return _id(message[4:end]), message[end:]


def join(id, row):
    header = ANSWER % id
    return len(header).to_bytes(4, "little") + header + row


def split_body(body):
    """A body that was posted: the JSON, the row. Its headers have the length of the JSON, but not all peers show them."""
    return _id(body[:-ROW]), body[-ROW:]


def join_body(id, row):
    return (ANSWER % id) + row


def result(seq, probability):
    return '{"type":"result","seq":%d,"probability":%r}' % (seq, float(probability))


def _id(header):
    request = orjson.loads(header)
    if request["inputs"][0]["parameters"]["binary_data_size"] != ROW:
        raise ValueError("not a row of mlp64")
    return request["id"].encode()
