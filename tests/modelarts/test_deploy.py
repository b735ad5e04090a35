"""The script that deploys, against the services that it calls, as their references and Huawei's own SDK describe them."""

import ast
import asyncio
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
from datetime import datetime, timezone
from http import HTTPStatus
from pathlib import Path

import cloud
import pytest
from conftest import PORT, ROOT, talk
from huawei import sign
from websockets.asyncio.server import serve

FOLDER = ROOT / "deploy/modelarts"
IMAGE = "swr.cn-north-4.myhuaweicloud.com/rivers/thalweg:0.1.0"
SERVICE = ["--image", IMAGE, "--name", "rivers", "--flavor", "modelarts.vm.cpu.2u"]
OPTIONS = {
    "v1": [*SERVICE, "--pool", "pool-1", "--smn-topic", "urn:smn:cn-north-4:1:t"],
    "v2": [*SERVICE, "--pool", "pool-1", "--models", "obs://rivers/models/", "--instances", "3"],
}
PASSWORD = {"HW_DOMAIN_NAME": "somewhere", "HW_USER_NAME": "someone", "HW_USER_PASSWORD": cloud.PASSWORD}
KEYS = {"HW_ACCESS_KEY": cloud.ACCESS_KEY, "HW_SECRET_KEY": cloud.SECRET_KEY}
TOKEN = {"HW_AUTH_TOKEN": cloud.TOKEN, "HW_PROJECT_ID": cloud.PROJECT}
SECRETS = [cloud.PASSWORD, cloud.SECRET_KEY, cloud.TOKEN]


@pytest.fixture
def huawei():
    with cloud.running() as huawei:
        yield huawei


def run(script, *words, path="", **env):
    env = {"PATH": f"{path}{os.environ['PATH']}", "HW_REGION_NAME": "cn-north-4", **env}
    return subprocess.run([sys.executable, FOLDER / script, *words], env=env, capture_output=True, text=True, timeout=60)


def deploy(huawei, *words, **env):
    """What it told, which may hold no secret."""
    done = run("deploy", *words, "--iam", huawei.url, "--modelarts", huawei.url, **env)
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS), "a secret was shown"
    return done


def calls(text, url):
    """The calls of a dry run: method, path and body."""
    found = re.split(rf"(?m)^(GET|POST|PUT) {re.escape(url)}(\S+)\n", text)[1:]
    for method, path, rest in zip(*[iter(found)] * 3):
        headers, _, body = rest.partition("\n\n")
        yield method, path, json.loads(body) if body.strip() else None, dict(line.split(": ", 1) for line in headers.splitlines())


def known(value):
    """What a dry run cannot know, as the services told it."""
    text = json.dumps(value)
    for name, id in {"project_id": cloud.PROJECT, "model_id": cloud.MODEL, "service_id": cloud.SERVICE}.items():
        text = text.replace(f"{{{name}}}", id)
    return json.loads(text)


@pytest.mark.parametrize("who", [PASSWORD, KEYS, TOKEN], ids=["password", "keys", "token"])
@pytest.mark.parametrize("api", OPTIONS)
def test_it_does_what_its_dry_run_says(huawei, api, who):
    dry = deploy(huawei, api, *OPTIONS[api], "--dry-run", **who)
    assert dry.returncode == 0 and not huawei.calls, dry.stderr
    done = deploy(huawei, api, *OPTIONS[api], "--poll", "0", **who)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == cloud.ADDRESS

    told = [(method, known(path), known(body), set(headers)) for method, path, body, headers in calls(dry.stdout, huawei.url)]
    hide = lambda body: json.loads(json.dumps(body).replace(cloud.PASSWORD, "***"))
    transport = {"Host", "Content-Length", "User-Agent", "Connection", "Accept-Encoding"}
    canonical = lambda headers: {name.title() for name in headers} - {name.title() for name in transport}
    sent = []
    for method, path, body, headers in huawei.calls:
        call = (method, path, hide(body), canonical(headers))
        # It looks until the status is the one that it waits for; the dry run says so once.
        if method == "POST" or not sent or call != sent[-1]:
            sent.append(call)
    assert sent == [(method, path, body, canonical(headers)) for method, path, body, headers in told]
    # Each status was told twice.
    assert len(huawei.calls) > len(sent)


def test_the_v1_definition_is_what_the_guide_asks_for(huawei):
    deploy(huawei, "v1", *OPTIONS["v1"], "--poll", "0", **TOKEN)
    model, service = (body for method, _, body, _ in huawei.calls if method == "POST")
    assert (model["model_type"], model["source_location"]) == ("Image", IMAGE)
    config = json.loads(model["initial_config"])
    assert (config["protocol"], config["port"], config["health"]["url"]) == ("http", "8080", "/health")
    assert service["infer_type"] == "real-time" and service["additional_properties"]["websocket_upgrade"] is True
    [instance] = service["config"]
    assert instance["model_id"] == cloud.MODEL and instance["weight"] == 100 and instance["instance_count"] == 1
    # Longer than the server takes to end.
    assert instance["additional_properties"]["termination_grace_period_seconds"] > 60
    check_names(model, V1_MODEL, "model")
    check_names(service, V1_SERVICE, "service")


HEALTH = {name: None for name in "check_method protocol url initial_delay_seconds period_seconds failure_threshold".split()}

# The members that the reference of the first API names; it has no SDK any more.
V1_MODEL = dict.fromkeys("model_name* model_version* model_type* source_location* install_type description initial_config".split())
V1_SERVICE = {
    **dict.fromkeys("service_name* infer_type* description pool_name".split()),
    "config*": {
        **dict.fromkeys("model_id* specification* instance_count* weight envs pool_name deploy_timeout_in_seconds".split()),
        "additional_properties": dict.fromkeys("max_surge max_unavailable termination_grace_period_seconds".split()),
    },
    "additional_properties": {"websocket_upgrade": None, "smn_notification": dict.fromkeys(["topic_urn*", "events*"])},
}


def check_names(value, names, at):
    if isinstance(value, list):
        for member in value:
            check_names(member, names, at)
    elif names is not None and isinstance(value, dict):
        plain = {name.rstrip("*"): below for name, below in names.items()}
        assert value.keys() <= plain.keys(), f"{at} has no {value.keys() - plain.keys()}"
        missing = {name.rstrip("*") for name in names if name.endswith("*")} - value.keys()
        assert not missing, f"{at} lacks {missing}"
        for name, member in value.items():
            check_names(member, plain[name], f"{at}.{name}")


def test_the_v2_definition_is_what_the_guide_asks_for(huawei):
    deploy(huawei, "v2", *OPTIONS["v2"], "--poll", "0", **TOKEN)
    [service] = (body for method, _, body, _ in huawei.calls if method == "POST")
    invoke = service["runtime_config"]["service_invoke"]
    assert (invoke["protocol"], invoke["port"], invoke["auth_type"]) == ("WS", 8080, "TOKEN")
    assert service["custom_metrics_path"] == "http,8080,metrics"
    # What a service of WebSockets may not have.
    assert "rate_limit" not in service["runtime_config"]["service_limit"]
    [group] = service["group_configs"]
    [unit] = group["unit_configs"]
    assert group["pool_id"] == "pool-1" and group["count"] == 3
    assert unit["port"] == 8080 and unit["security_config"] == {"user_id": 1000, "group_id": 100}
    assert [(file["source"], file["address"], file["mount_path"]) for file in unit["files"]] == [("OBS", "obs://rivers/models/", "/home/mind/model/")]
    assert {unit[f"{kind}_health"]["url"] for kind in ("startup", "readiness", "liveness")} == {"/health"}
    assert unit["termination_grace"]["termination_grace_period_seconds"] > 60
    check_against_sdk(service, "ServiceCreateRequest", "service")


def sdk_types(name):
    """The members of a class of Huawei's SDK and their types, without running it."""
    [folder] = importlib.util.find_spec("huaweicloudsdkmodelarts").submodule_search_locations
    file = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
    tree = ast.parse(Path(folder, "v1/model", f"{file}.py").read_text())
    tables = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for node in tree.body if isinstance(node, ast.ClassDef)
        for statement in node.body if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict)
    }
    return {tables["attribute_map"][attribute]: type for attribute, type in tables["openapi_types"].items()}


PLAIN = {"str": str, "int": int, "float": (int, float), "bool": bool}


def check_against_sdk(value, type, at):
    if listed := re.fullmatch(r"list\[(.*)\]", type):
        assert isinstance(value, list), f"{at} is no list"
        for index, member in enumerate(value):
            check_against_sdk(member, listed[1], f"{at}[{index}]")
    elif type.startswith("dict("):
        assert isinstance(value, dict), f"{at} is no object"
    elif type in PLAIN:
        assert isinstance(value, PLAIN[type]) and isinstance(value, bool) == (type == "bool"), f"{at} is no {type}"
    else:
        types = sdk_types(type)
        for name, member in value.items():
            assert name in types, f"{at} has no member {name}"
            check_against_sdk(member, types[name], f"{at}.{name}")


def test_our_settings_are_settings():
    """What the definitions put into the environment, the server would refuse if it were misspelt."""
    declared = (ROOT / "README.md").read_text()
    text = "".join(path.read_text() for path in FOLDER.glob("v?/service.json"))
    variables = set(re.findall(r'"(THALWEG_\w+)"', text))
    assert variables and all(f"`{name}`" in declared for name in variables)


@pytest.mark.parametrize("api", OPTIONS)
def test_a_wrong_password_is_told(huawei, api):
    done = deploy(huawei, api, *OPTIONS[api], **{**PASSWORD, "HW_USER_NAME": "nobody"})
    assert done.returncode == 1 and "401" in done.stderr and "The username or password is wrong." in done.stderr
    assert len(huawei.calls) == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(("api", "of", "status"), [("v1", "model", "failed"), ("v1", "v1", "failed"), ("v2", "v2", "FAILED"), ("v2", "v2", "ERROR")])
def test_a_failure_on_the_way_is_told(huawei, api, of, status):
    huawei.statuses[of] = ["deploying", status]
    done = deploy(huawei, api, *OPTIONS[api], "--poll", "0", **TOKEN)
    assert done.returncode == 1 and f"is {status}" in done.stderr and "Traceback" not in done.stderr
    if api == "v2":
        assert "no node is left" in done.stderr


def test_it_does_not_wait_for_ever(huawei):
    huawei.statuses["v2"] = ["DEPLOYING"]
    done = deploy(huawei, "v2", *OPTIONS["v2"], "--poll", "0", "--timeout", "0", **TOKEN)
    assert done.returncode == 1 and "is still DEPLOYING after 0 seconds" in done.stderr


def test_who_gives_no_credentials_is_told_which(huawei):
    done = deploy(huawei, "v2", *OPTIONS["v2"])
    assert done.returncode == 1 and "HW_ACCESS_KEY" in done.stderr and not huawei.calls


@pytest.mark.parametrize("api", OPTIONS)
def test_flavors(huawei, api):
    assert "modelarts.vm.cpu.2u" in deploy(huawei, "flavors", api, **KEYS).stdout


DOCKER = """#!/bin/sh
for word; do printf '%s\\n' "$word" >> "$(dirname "$0")/words"; done
case "$1" in login) cat >> "$(dirname "$0")/password";; esac
"""


def test_an_image_is_built_and_pushed_without_attestations(tmp_path):
    docker = tmp_path / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    for flags, file, context in [([], "Dockerfile", ROOT), (["--cuda"], "Dockerfile.cuda", ROOT), (["--models", "m", "--base", "b"], "deploy/modelarts/Dockerfile", "m")]:
        done = run("deploy", "image", "--image", IMAGE, *flags, path=f"{tmp_path}:", **KEYS)
        assert done.returncode == 0 and not any(secret in done.stdout + done.stderr for secret in SECRETS), done.stderr
        words = (tmp_path / "words").read_text().split()
        assert words[:5] == ["login", "--username", f"cn-north-4@{cloud.ACCESS_KEY}", "--password-stdin", "swr.cn-north-4.myhuaweicloud.com"]
        build = words[5:]
        assert {"--platform=linux/amd64", "--provenance=false", "--sbom=false", "--push"} <= set(build)
        assert build[build.index("--tag") + 1] == IMAGE and build[build.index("--file") + 1] == str(ROOT / file)
        assert build[-1] == str(context)
        (tmp_path / "words").unlink()
    # By the guide's command: printf "$AK" | openssl dgst -binary -sha256 -hmac "$SK" | od -An -vtx1
    assert set(re.findall(".{64}", (tmp_path / "password").read_text())) == {LOGIN}
    dry = run("deploy", "image", "--image", IMAGE, "--dry-run", path=f"{tmp_path}:", **KEYS)
    assert dry.returncode == 0 and not (tmp_path / "words").exists() and "--provenance=false" in dry.stdout


LOGIN = "89aca1198a970e4360203d71cdaa80cfc13ecd55ee84409719e88162d139ef34"


def test_the_published_signature():
    url = "https://service.region.example.com/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs?limit=2&marker=13551d6b-755d-4757-b956-536f674975c0"
    at = datetime(2019, 11, 15, 3, 36, 55, tzinfo=timezone.utc)
    headers = sign("GET", url, {"Content-Type": "application/json"}, b"", cloud.ACCESS_KEY, cloud.SECRET_KEY, at)
    published = "7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"
    assert headers["Authorization"] == f"SDK-HMAC-SHA256 Access={cloud.ACCESS_KEY}, SignedHeaders=content-type;host;x-sdk-date, Signature={published}"


def test_signatures_are_those_of_the_sdk():
    seed = int(os.environ.get("THALWEG_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"THALWEG_SEED={seed}")
    some = random.Random(seed)
    word = lambda: "".join(some.choices("abcXYZ019-_.~", k=some.randint(1, 8)))
    for _ in range(200):
        path = "".join(f"/{word()}" for _ in range(some.randint(0, 4))) + some.choice(["", "/", "/a%20b", "/%E6%B2%B3"])
        query = "&".join(f"{word()}={some.choice([word(), '', 'a%20b', '%2F%26'])}" for _ in range(some.randint(0, 3)))
        url = f"https://{word()}.example{path or '/'}" + (f"?{query}" if query else "")
        headers = {"Content-Type": "application/json", **({f"X-{word().replace('_', '-')}": word()} if some.random() < 0.5 else {})}
        method, body = some.choice([("GET", b""), ("POST", json.dumps({word(): word()}).encode())])
        made = sign(method, url, headers, body, cloud.ACCESS_KEY, cloud.SECRET_KEY)
        assert cloud.is_signed(method, url, made, body), (method, url, made)
        assert not cloud.is_signed(method, url, {**made, "X-Sdk-Date": "20191115T033655Z"}, body)


CLIENTS = {
    "token": ({"HW_AUTH_TOKEN": "t"}, lambda headers, _: headers.get("X-Auth-Token") == "t"),
    "app code": ({"HW_APP_CODE": "c"}, lambda headers, _: headers.get("X-Apig-AppCode") == "c"),
    "api key": ({"HW_API_KEY": "k"}, lambda headers, _: headers.get("Authorization") == "Bearer k"),
    "keys": (KEYS, lambda headers, url: cloud.is_signed("GET", url, headers, b"")),
}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("path", ["/", "/v1/infers/10eb/v2/models/magika/stream?greeting=false&x=a%20b"])
def test_the_client_proves_itself(kind, path):
    """To a gateway that lets nobody else in; signatures are checked by Huawei's own SDK."""
    env, is_right = CLIENTS[kind]

    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    def gate(connection, request):
        url = f"https://{request.headers['Host']}{request.path}"
        if not is_right(dict(request.headers.raw_items()), url):
            return connection.respond(HTTPStatus.UNAUTHORIZED, '{"error_code":"APIGW.0301"}')

    async def main():
        async with serve(echo, "127.0.0.1", 0, process_request=gate) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}{path}"
            good = await asyncio.to_thread(run, "client.py", url, "one", "two", **env)
            bad = await asyncio.to_thread(run, "client.py", url, "one")
            return good, bad

    good, bad = talk(main())
    assert good.stdout == "one\ntwo\n", good.stderr
    assert bad.returncode == 1 and "401" in bad.stderr and "APIGW.0301" in bad.stderr and "Traceback" not in bad.stderr


def test_the_headers_for_other_clients(huawei):
    done = run("deploy", "headers", "wss://gate.example/v1/infers/1?x=1", "--iam", huawei.url, **KEYS, HW_PROJECT_ID=cloud.PROJECT)
    headers = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert cloud.is_signed("GET", "wss://gate.example/v1/infers/1?x=1", {**headers, "Host": "gate.example"}, b"")


def test_the_client_asks_the_server(container, tmp_path):
    page = tmp_path / "page"
    page.write_text("<html><body><h1>River</h1><p>It flows.</p></body></html>")
    done = run("client.py", f"ws://127.0.0.1:{PORT}/?greeting=false", "def flow(x):\n    return [y for y in x if y]\n", "--file", str(page), **KEYS)
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == ["python", "html"], done.stderr
