"""A WebSocket client of as many lines as it takes to send text and read what comes."""

import base64
import json
import os
import socket
import struct


class Socket:
    def __init__(self, address, path):
        host, port = address.rsplit(":", 1)
        self.stream = socket.create_connection((host, int(port)), timeout=60)
        self.reader = self.stream.makefile("rb")
        key = base64.b64encode(os.urandom(16)).decode()
        head = [f"GET {path} HTTP/1.1", f"Host: {address}", "Upgrade: websocket", "Connection: Upgrade"]
        head += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        self.stream.sendall("\r\n".join(head).encode())
        status = self.reader.readline()
        if b" 101 " not in status:
            raise OSError(status.decode().strip())
        while self.reader.readline().strip():
            pass

    def send(self, message):
        payload = json.dumps(message).encode()
        length = len(payload)
        size = struct.pack(">BBH", 0x81, 0xFE, length) if length > 125 else struct.pack(">BB", 0x81, 0x80 | length)
        # A mask of zeros leaves the bytes as they are.
        self.stream.sendall(size + bytes(4) + payload)

    def receive(self):
        text = b""
        while True:
            first, length = self.reader.read(2)
            length = struct.unpack(">H", self.reader.read(2))[0] if length == 126 else length
            length = struct.unpack(">Q", self.reader.read(8))[0] if length == 127 else length
            payload = self.reader.read(length)
            if first & 0x0F >= 8:
                continue  # A ping that nobody answers is no matter within its interval.
            text += payload
            if first & 0x80:
                return json.loads(text)

    def close(self):
        self.stream.close()
