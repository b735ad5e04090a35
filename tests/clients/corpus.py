"""Documents of many kinds, the same on every machine but for the standard library's own sources."""

import ast
import csv
import gzip
import io
import json
import random
import struct
import zipfile
import zlib
from functools import cache


@cache
def corpus():
    """Documents by name, as bytes."""
    table = [{"id": n, "name": f"river {n}", "flow": n * 1.5, "tags": ["a", "b"]} for n in range(60)]
    noise = random.Random(0).randbytes
    python = read(ast)
    documents = {
        "python": python,
        "python_short": read(csv)[:3000],
        "python_huge": python * (1 + (1 << 20) // len(python)),
        "html": html(10),
        "html_large": html(2000),
        "json": json.dumps(table, indent=2).encode(),
        "json_line": json.dumps(table[0]).encode(),
        "json_like_a_control": b'{"type":"close"}',
        "xml": xml(table),
        "csv": sheet(table),
        "ini": b"".join(b"[section%d]\nkey = value\npath = /var/lib/%d\n\n" % (n, n) for n in range(20)),
        "css": b"body { margin: 0; color: #333; }\n.river > a:hover { display: none; }\n" * 20,
        "javascript": b"const flow = async (x) => { await fetch(`/v2/${x}`); };\nexport default flow;\n" * 20,
        "rust": b"fn main() {\n    let x: Vec<u8> = Vec::new();\n    println!(\"{x:?}\");\n}\n" * 20,
        "shell": b"#!/bin/sh\nset -eu\nfor file in *.txt; do\n  echo \"$file\"\ndone\n" * 5,
        "makefile": b".PHONY: all\nall: main.o\n\tcc -o main main.o\n\n%.o: %.c\n\tcc -c $<\n" * 5,
        "markdown": b"# Thalweg\n\nThe line of *fastest* flow.\n\n- one\n- two\n\n```sh\nmake\n```\n" * 5,
        "prose": "The river ran on, and nobody asked where. Die Bäche, die Flüsse, das Meer.\n".encode() * 40,
        "prose_short": b"Just a few words.",
        "png": png(noise),
        "elf": elf(noise),
        "zip": archive(python),
        "gzip": gzip.compress(python, mtime=0),
        "noise": noise(5000),
        "noise_huge": noise((1 << 20) + 17),
        "empty": b"",
        "one_byte": b"a",
        "tiny_text": b"1234567",
        "tiny_utf8": "né!".encode(),
        "tiny_not_utf8": b"\xff\xfe\x00",
        "eight_bytes": b"<html></",
        "blank": b" \n\t" * 100,
        "blank_huge": b" " * 10_000,
        "blank_then_html": b"\r\n \t" * 300 + html(10),
        "html_then_blank": html(10) + b" \n" * 3000,
        "blank_then_tiny": b" " * 100 + b"abc",
        "blank_then_tiny_not_utf8": b" " * 100 + b"\xff",
        "vertical_blanks": b"\x0b\x0c" * 20 + html(1),
    }
    for size in (1023, 1024, 1025, 2048, 4095, 4096, 4097, 8191, 8193):
        documents[f"python_{size}"] = (python * 2)[:size]
    return documents


def read(module):
    with open(module.__file__, "rb") as file:
        return file.read()


def html(paragraphs):
    body = b"".join(b"<p class='p%d'>Some <b>bold</b> text</p>\n" % n for n in range(paragraphs))
    return b"<!DOCTYPE html>\n<html><head><title>River</title></head>\n<body>\n" + body + b"</body></html>\n"


def xml(table):
    rows = "".join(f'  <river id="{row["id"]}"><name>{row["name"]}</name></river>\n' for row in table)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<rivers>\n{rows}</rivers>\n'.encode()


def sheet(table):
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", "name", "flow"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue().encode()


def png(noise):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = b"".join(b"\0" + noise(3 * 32) for _ in range(32))
    header = struct.pack(">IIBBBBB", 32, 32, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def elf(noise):
    fields = (3, 62, 1, 0x1040, 64, 6000, 0, 64, 56, 9, 64, 30, 29)
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", *fields)
    names = b"/lib64/ld-linux-x86-64.so.2\0GNU\0libc.so.6\0__cxa_finalize\0"
    return header + bytes(400) + names + noise(4000) + bytes(500)


def archive(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo("ast.py"), content)
    return out.getvalue()
