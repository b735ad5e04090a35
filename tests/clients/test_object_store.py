"""Model repositories in buckets: moto's server, which speaks S3 over HTTP and checks the signatures of headers, behind
one that checks signed addresses by botocore's own arithmetic, as moto does not know them."""

import hashlib
import http.client
import os
import urllib.parse

import boto3
import pytest
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from moto import settings
from moto.server import ThreadedMotoServer

import archives
from flaky import Flaky, cut, instead
from test_remote import fetching, listed, serves, whole

REGION = "eu-west-1"
POLICY = (
    '{"Version": "2012-10-17", "Statement":'
    ' [{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject"], "Resource": "*"}]}'
)


class Store:
    """A bucket named `models`, and a user who may read it."""

    def __init__(self, address):
        self.address = address
        options = {"endpoint_url": f"http://{address[0]}:{address[1]}", "region_name": REGION,
                   "aws_access_key_id": "any", "aws_secret_access_key": "any"}
        self.s3 = boto3.client("s3", **options)
        self.s3.create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
        iam = boto3.client("iam", **options)
        iam.create_user(UserName="reader")
        iam.put_user_policy(UserName="reader", PolicyName="read", PolicyDocument=POLICY)
        key = iam.create_access_key(UserName="reader")["AccessKey"]
        self.key, self.secret = key["AccessKeyId"], key["SecretAccessKey"]
        own = {"aws_access_key_id": self.key, "aws_secret_access_key": self.secret}
        self.reader = boto3.client("s3", **options | own)

    def put(self, files, prefix):
        for name, content in files.items():
            self.s3.put_object(Bucket="models", Key=f"{prefix}{name}", Body=content)

    def answer(self, path, headers):
        """What the bucket answers to whoever asks for this."""
        split = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(split.query))
        if "X-Amz-Signature" not in query:
            return self._forward(path, {name: value for name, value in headers.items() if name != "Connection"})
        if query["X-Amz-Signature"] != self._signature(split, query, headers):
            return 403, {}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>"
        bucket, key = urllib.parse.unquote(split.path).lstrip("/").split("/", 1)
        names = {"Range": "Range", "If-Match": "IfMatch"}
        wanted = {names[name]: headers[name] for name in names if name in headers}
        try:
            got = self.reader.get_object(Bucket=bucket, Key=key, **wanted)
        except ClientError as error:
            code = f"<Error><Code>{error.response['Error']['Code']}</Code></Error>"
            return error.response["ResponseMetadata"]["HTTPStatusCode"], {}, code.encode()
        told = {"ETag": got["ETag"]} | ({"Content-Range": got["ContentRange"]} if "ContentRange" in got else {})
        return got["ResponseMetadata"]["HTTPStatusCode"], told, got["Body"].read()

    def _forward(self, path, headers):
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, {}, response.read()

    def _signature(self, split, query, headers):
        query = {name: value for name, value in query.items() if name != "X-Amz-Signature"}
        region = query["X-Amz-Credential"].split("/")[2]
        auth = S3SigV4QueryAuth(Credentials(self.key, self.secret), "s3", region, int(query["X-Amz-Expires"]))
        url = f"http://{headers['Host']}{split.path}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
        names = [name for name in query["X-Amz-SignedHeaders"].split(";") if name != "host"]
        request = AWSRequest("GET", url, headers={name: headers[name] for name in names})
        request.context["timestamp"] = query["X-Amz-Date"]
        return auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)

    def env(self, **others):
        return {"AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret, "AWS_REGION": REGION} | others


@pytest.fixture(scope="module")
def store():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    store = Store(server.get_host_and_port())
    store.put(archives.repository(), "good/")
    # As consoles make folders.
    store.put({"": b"", "add_fp32/": b"", "add_fp32/1/": b""}, "good/")
    store.put(archives.repository(), "good-not/this/")
    # From here on, who asks has to show a key and a right signature.
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    yield store
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
    server.stop()


@pytest.fixture
def front(store):
    with Flaky(upstream=store.answer) as front:
        yield front


def asked(front):
    return [path.removeprefix("/models/good/") for path, _ in front.asked if path.startswith("/models/good/")]


@pytest.fixture
def unsigned(store):
    """For a test that writes to the bucket."""
    settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
    yield
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0


def endpoint(front):
    return ["--s3-endpoint", front.url()]


def set_environment(monkeypatch, variables):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_bucket_is_served_and_not_fetched_twice(tmp_path, store, front, monkeypatch):
    set_environment(monkeypatch, store.env())
    with fetching(tmp_path, "s3://models/good", flags=endpoint(front), source=front) as server:
        serves(server)
    assert sorted(asked(front)) == ["add_fp32/1/model.onnx", "add_fp32/notes.bin"]
    front.asked.clear()
    with fetching(tmp_path, "s3://models/good", flags=endpoint(front), source=front) as server:
        serves(server)
    assert asked(front) == [] and front.asked


def test_an_object_that_breaks_off_is_gone_on_with(tmp_path, store, front, monkeypatch):
    set_environment(monkeypatch, store.env())
    front.then(cut(10**9), cut(500_000), instead(archives.BALLAST[::-1]))
    with fetching(tmp_path, "s3://models/good", flags=endpoint(front), source=front) as server:
        serves(server)
        server.wait_for("its checksum is wrong")
    ranges = front.ranges("notes.bin")
    assert ranges == [None, "bytes=500000-", None]
    [folder] = whole(tmp_path)
    assert (folder / "add_fp32/notes.bin").read_bytes() == archives.BALLAST


def test_what_changes_while_it_is_fetched_is_listed_anew(tmp_path, store, front, unsigned):
    store.put(archives.repository(ballast=b"first."), "changing/")

    def change():
        if front.asked[-1][0].endswith("model.onnx"):
            store.put({"add_fp32/notes.bin": b"second"}, "changing/")

    front.on_request = change
    done = listed(tmp_path, "s3://models/changing", flags=endpoint(front), env=store.env())
    assert done.returncode == 0, done.stderr
    [folder] = whole(tmp_path)
    assert (folder / "add_fp32/notes.bin").read_bytes() == b"second"
    # What came first is not taken for what was listed then.
    assert len(front.ranges("notes.bin")) == 2


@pytest.mark.parametrize(
    "files, code, sentence",
    [
        (lambda sums: {"SHA256SUMS": sums}, 0, ""),
        (lambda sums: {"SHA256SUMS": b"0" * 64 + sums[64:]}, 1, "is not served: expected SHA-256"),
        (lambda sums: {"SHA256SUMS": sums.split(b"\n")[0]}, 1, "SHA256SUMS lacks 'add_fp32/notes.bin'"),
        (lambda sums: {"SHA256SUMS": sums + sums.replace(b"notes", b"more")}, 1, "which is not there"),
    ],
    ids=["right", "wrong", "short", "long"],
)
def test_a_list_of_checksums_is_kept_to(tmp_path, store, front, unsigned, files, code, sentence):
    good = archives.repository(ballast=b"x")
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in good.items())
    prefix = f"{tmp_path.name}/"
    store.put(good | files(sums.encode()), prefix)
    done = listed(tmp_path, f"s3://models/{prefix}", flags=endpoint(front), env=store.env())
    assert (done.returncode, bool(whole(tmp_path))) == (code, code == 0), done.stderr
    assert sentence in done.stderr


REFUSED = {
    "no_such_key": ("good", {"AWS_ACCESS_KEY_ID": "AKIAWRONG"}, "nobody has this access key"),
    "wrong_secret": ("good", {"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key does not fit the access key"),
    "half_a_key": ("good", {"AWS_SECRET_ACCESS_KEY": ""}, "Missing SecretAccessKey"),
    "nothing_there": ("nothing", {}, "the bucket has nothing with this prefix"),
}


@pytest.mark.parametrize("prefix, variables, sentence", REFUSED.values(), ids=REFUSED.keys())
def test_what_a_bucket_refuses_is_told(tmp_path, store, front, prefix, variables, sentence):
    done = listed(tmp_path, f"s3://models/{prefix}", flags=endpoint(front), env=store.env(**variables))
    assert done.returncode == 1 and sentence in done.stderr, done.stderr
    assert store.secret not in done.stderr and not whole(tmp_path)


def test_a_bucket_that_is_not_there_is_told(tmp_path, store, front):
    done = listed(tmp_path, "s3://other/good", flags=endpoint(front), env=store.env())
    assert done.returncode == 1 and "there is no such bucket" in done.stderr, done.stderr


def test_a_mounted_secret_will_do(tmp_path, store, front):
    secret = tmp_path / "secret"
    secret.mkdir()
    for name, value in store.env().items():
        (secret / name).write_text(value)
    done = listed(tmp_path / "cache", "s3://models/good", flags=[*endpoint(front), "--s3-credentials", secret])
    assert done.returncode == 0, done.stderr


def test_hostile_names_are_refused(tmp_path, store, front, unsigned):
    store.put(archives.repository(ballast=b"") | {"a\\..\\b": b"x"}, "hostile/")
    done = listed(tmp_path, "s3://models/hostile", flags=endpoint(front), env=store.env())
    assert done.returncode == 1 and "which has characters that names of models do not have" in done.stderr, done.stderr


def test_a_bucket_beyond_the_limit_is_not_fetched(tmp_path, store, front):
    flags = [*endpoint(front), "--max-repository-size", "1MiB"]
    done = listed(tmp_path, "s3://models/good", flags=flags, env=store.env())
    assert done.returncode == 1 and "is beyond 1048576 bytes" in done.stderr, done.stderr
    assert asked(front) == []
