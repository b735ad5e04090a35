"""Model repositories that are elsewhere: fetched from servers that break off, lie, hang and change their minds."""

import hashlib
import os
import re
import resource
import signal
import subprocess
import tarfile
import threading
import urllib.error
from contextlib import contextmanager

import pytest

import archives
from conftest import ROOT, STOP_SECONDS, Server, binary
from flaky import HANG, WELL, Flaky, cut, instead, status

ARCHIVE = "/models.tar.gz"
TENSORS = (
    '{"inputs": [{"name": "a", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},'
    ' {"name": "b", "datatype": "FP32", "shape": [1, 4], "data": [10, 20, 30, 40]}]}'
)


def checksum(content):
    return hashlib.sha256(content).hexdigest()


def whole(cache):
    """What is in the cache under the name by which it would be served."""
    return [path for path in cache.glob("*/*") if re.fullmatch("[0-9a-f]{64}", path.name)]


@contextmanager
def fetching(cache, *repositories, source=None, silence="1", flags=()):
    """A server that fetches; while its source is asked, it has to be live and may not be ready."""
    told = threading.Event()
    seen = []

    def not_ready_yet():
        told.wait()
        seen.append((server.is_ready(), server.get("/v2/health/live"), health(server)))

    if source:
        source.on_request = not_ready_yet
    server = Server(repositories, "--model-cache", cache, "--fetch-timeout", silence, *flags)
    told.set()
    try:
        yield server
    finally:
        if source:
            source.on_request = lambda: None
        server.stop()
    assert not server.panics, "".join(server.panics)
    assert all((ready, code) == (False, 503) for ready, _, code in seen), seen
    assert not source or seen


def health(server):
    try:
        server.get("/health")
    except urllib.error.HTTPError as error:
        return error.code
    return 200


def ended(server):
    """How a server ends that cannot become ready."""
    code = server.process.wait(STOP_SECONDS)
    server.reader.join(STOP_SECONDS)
    return code, server.tail()


def serves(server):
    server.wait_until_ready()
    assert '"name":"add_fp32"' in server.get("/v2/models/add_fp32").replace(" ", "")
    assert server.get("/v2/models/add_fp32/ready") is not None


def test_it_breaks_off_lies_hangs_and_comes_back(tmp_path):
    good = archives.tar_gz(archives.repository())
    bad = good[:-1000] + bytes(1000)
    files = {ARCHIVE: good, f"{ARCHIVE}.sha256": f"{checksum(good)}  models.tar.gz\n".encode()}
    script = [cut(200_000), status(503), HANG, cut(200_000), instead(bad), cut(100_000), WELL]
    with Flaky(files, script) as source, fetching(tmp_path, source.url(ARCHIVE), source=source) as server:
        serves(server)
        assert source.ranges(ARCHIVE) == [
            None, "bytes=200000-", "bytes=200000-", "bytes=200000-", "bytes=400000-", None, "bytes=100000-",
        ]
        log = server.tail()
    for sentence in ("the fetch broke off", "percent=90", "the server answers 503", "its checksum is wrong", "the fetch goes on"):
        assert sentence in log, log
    assert [path.name for path in whole(tmp_path)] == [checksum(good)]


@pytest.mark.parametrize("pinned", [True, False], ids=["pinned", "beside"])
def test_what_lies_about_its_checksum_is_never_served(tmp_path, pinned):
    good, other = archives.tar_gz(archives.repository()), archives.tar_gz(archives.repository(ballast=b"other"))
    files = {ARCHIVE: other} | ({} if pinned else {f"{ARCHIVE}.sha256": checksum(good).encode()})
    with Flaky(files) as source:
        url = source.url(ARCHIVE) + (f"#sha256={checksum(good)}" if pinned else "")
        with fetching(tmp_path, url, source=source) as server:
            code, log = ended(server)
    assert code == 1
    assert f"is not what it should be and is not served: expected SHA-256 {checksum(good)}" in log
    assert "It was fetched 3 times" in log
    assert not whole(tmp_path)


def test_a_file_that_changes_in_between_is_fetched_anew(tmp_path):
    first, second = (archives.tar_gz(archives.repository(ballast=archives.BALLAST + tail)) for tail in (b"1", b"2"))
    with Flaky({ARCHIVE: first}, [cut(200_000)]) as source:

        def change():
            if len(source.ranges(ARCHIVE)) == 2:
                source.files[ARCHIVE] = second

        with fetching(tmp_path, source.url(ARCHIVE), source=source) as server:
            observed = source.on_request
            source.on_request = lambda: (change(), observed())
            serves(server)
        assert source.ranges(ARCHIVE) == [None, "bytes=200000-"]
    assert [path.name for path in whole(tmp_path)] == [checksum(second)]


def test_a_killed_server_leaves_nothing_that_is_served_and_the_next_goes_on(tmp_path):
    good = archives.tar_gz(archives.repository())
    with Flaky({ARCHIVE: good}, [cut(300_000), HANG]) as source:
        with fetching(tmp_path, source.url(ARCHIVE), silence="60") as server:
            assert source.hangs.wait(STOP_SECONDS), server.tail()
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
        assert not whole(tmp_path)
        with fetching(tmp_path, source.url(ARCHIVE), source=source) as server:
            serves(server)
        assert source.ranges(ARCHIVE)[2:] == ["bytes=300000-"]
        # A third time there is nothing to fetch.
        with fetching(tmp_path, source.url(ARCHIVE), source=source) as server:
            serves(server)
        path, headers = source.asked[-1]
        assert path == ARCHIVE and "If-None-Match" in headers and len(source.ranges(ARCHIVE)) == 4
    # And of what is pinned, nobody needs to be asked.
    with fetching(tmp_path, f"{source.url(ARCHIVE)}#sha256={checksum(good)}") as server:
        serves(server)


def test_a_signal_ends_it_while_it_fetches(tmp_path):
    with Flaky({ARCHIVE: b""}, [HANG]) as source:
        with fetching(tmp_path, source.url(ARCHIVE), silence="60", source=source) as server:
            assert source.hangs.wait(STOP_SECONDS), server.tail()
            assert server.stop() == 0
            server.wait_for("ended before the models were loaded")


def listed(cache, *repositories, flags=(), env=(), limits=None):
    """What `thalweg models list` says of repositories, which it fetches as a server does."""
    command = [binary(), "models", "list", "--model-cache", cache, "--fetch-timeout", "1", *flags]
    for repository in repositories:
        command += ["--model-repository", repository]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=120, preexec_fn=limits,
        env={name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | dict(env),
    )


FORMATS = {
    "tar": archives.tar(archives.repository()),
    "tar_gz": archives.tar_gz(archives.repository()),
    "zip": archives.pack_zip(archives.repository()),
    "in_a_folder": archives.tar_gz(archives.repository("my-models/")),
}


@pytest.mark.parametrize("packed", FORMATS.values(), ids=FORMATS.keys())
def test_archives_are_told_by_what_is_in_them(tmp_path, packed):
    with Flaky({"/download": packed}) as source:
        done = listed(tmp_path, f"{source.url('/download')}?name=models")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["add_fp32", "1"]), done.stderr


GOOD = archives.repository(ballast=b"")
BOMB = bytes(50 << 20)
LONG_NAME = tarfile.TarInfo("n" * (8 << 20))
MANY = [archives.member(f"add_fp32/{number}", tarfile.DIRTYPE) for number in range(10_001)]
ATTACKS = {
    "traversal": (archives.tar_gz(GOOD | {"../outside": b"x"}), "'../outside', which leads out of its folder"),
    "absolute": (archives.tar_gz(GOOD | {"/tmp/thalweg-outside": b"x"}), "which leads out of its folder"),
    "symbolic_link": (
        archives.tar_gz(GOOD, archives.member("add_fp32/2", tarfile.SYMTYPE, "/etc")), "'add_fp32/2' is a link",
    ),
    "hard_link": (
        archives.tar_gz(GOOD, archives.member("add_fp32/passwd", tarfile.LNKTYPE, "/etc/passwd")), "is a link",
    ),
    "device": (archives.tar_gz(GOOD, archives.member("add_fp32/zero", tarfile.CHRTYPE)), "is neither a file nor a folder"),
    "bomb": (archives.tar_gz(GOOD | {"add_fp32/zeros": BOMB}), "is beyond 2097152 bytes; max_repository_size"),
    "long_name": (archives.tar_gz(GOOD, LONG_NAME), "the heads of its files are too large"),
    "many": (archives.tar_gz({}, *MANY), "is beyond 10000 files"),
    "twice": (archives.tar_gz(GOOD | {"./add_fp32/1/model.onnx": b"x"}), "is in it twice"),
    "cut_off": (archives.tar_gz(archives.repository())[:50_000], "cannot be used and is not served"),
    "zip_traversal": (archives.pack_zip(GOOD | {"../outside": b"x"}), "'../outside', which leads out of its folder"),
    "zip_absolute": (archives.pack_zip(GOOD | {"/tmp/thalweg-outside": b"x"}), "which leads out of its folder"),
    "zip_link": (archives.pack_zip(GOOD, [("add_fp32/2", "/etc")]), "'add_fp32/2' is a link"),
    "zip_bomb": (archives.pack_zip(GOOD | {"add_fp32/zeros": BOMB}), "is beyond 2097152 bytes; max_repository_size"),
    "no_archive": (b"<!doctype html>", "it is no archive"),
}


@pytest.mark.parametrize("packed, sentence", ATTACKS.values(), ids=ATTACKS.keys())
def test_malicious_archives_are_refused(tmp_path, packed, sentence):
    cache = tmp_path / "a" / "b" / "cache"
    with Flaky({ARCHIVE: packed}) as source:
        done = listed(cache, source.url(ARCHIVE), flags=["--max-repository-size", "2MiB"])
    assert done.returncode == 1 and sentence in done.stderr, done.stderr
    assert not whole(cache)
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.name in ("lock", "current") for path in left), left
    assert not os.path.exists("/tmp/thalweg-outside")


def test_a_disk_that_takes_no_more_is_told(tmp_path):
    def small_files_only():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    with Flaky({ARCHIVE: archives.tar_gz(archives.repository())}) as source:
        done = listed(tmp_path, source.url(ARCHIVE), limits=small_files_only)
        assert done.returncode == 1 and re.search("cannot write or read .*/part: ", done.stderr), done.stderr
        assert not whole(tmp_path)
        # With room it goes on from there.
        assert listed(tmp_path, source.url(ARCHIVE)).returncode == 0
        assert source.ranges(ARCHIVE) == [None, "bytes=100000-"]


def test_no_log_shows_a_query(tmp_path):
    command = [binary(), "serve", "--listen", "127.0.0.1:0", "--model-cache", tmp_path, "--log", "trace"]
    with Flaky({ARCHIVE: b"no archive"}) as source:
        command += ["--model-repository", source.url(f"{ARCHIVE}?token=a-secret")]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert "it is no archive" in done.stderr
    assert "a-secret" not in done.stdout + done.stderr


def test_addresses_that_cannot_be_used_are_told(tmp_path):
    with Flaky() as source:
        assert "the server does not have it" in listed(tmp_path, source.url("/nothing.zip")).stderr
    for given, sentence in {
        "ftp://h/a": "a repository is a folder, or begins with https://, http:// or s3://",
        "https://h/a.zip#sha256=1": "64 hexadecimal digits",
    }.items():
        assert sentence in listed(tmp_path, given).stderr
