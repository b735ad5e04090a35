"""Archives of model repositories, good and malicious."""

import gzip
import io
import random
import tarfile
import zipfile

from conftest import ROOT

MODEL = (ROOT / "tests/models/repository/add_fp32/1/model.onnx")
# What does not compress, so that an archive is large enough to break off in.
BALLAST = random.Random(7).randbytes(1_200_000)


def repository(prefix="", ballast=BALLAST):
    """Names and contents of a repository with one model, `add_fp32`."""
    return {f"{prefix}add_fp32/1/model.onnx": MODEL.read_bytes(), f"{prefix}add_fp32/notes.bin": ballast}


def tar(files, *members):
    """A tar file of these files, and of members that are no plain files."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for member in members:
            archive.addfile(member)
    return packed.getvalue()


def tar_gz(files, *members):
    return gzip.compress(tar(files, *members), 6, mtime=0)


def pack_zip(files, links=()):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in links:
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o120777 << 16
            archive.writestr(member, target)
    return packed.getvalue()


def member(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member
