"""Builds kustomizations, and tells why Kubernetes or compose would refuse what is in deploy/."""

import json
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import files
from pathlib import Path

import jsonschema
import shapes
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BINARY = Path(os.environ.get("THALWEG_BIN", ROOT / "target/release/thalweg"))
# Against what the manifests are checked: the newest, and the oldest that docs/KUBERNETES.md names.
VERSIONS = ["1.37", "1.30"]


class Refused(Exception):
    pass


def build(folder):
    """The objects of a kustomization."""
    built = subprocess.run([kubectl(), "kustomize", folder], capture_output=True, text=True)
    if built.returncode:
        raise Refused(built.stderr.strip())
    return list(yaml.safe_load_all(built.stdout))


@cache
def kubectl():
    return subprocess.run([sys.executable, ROOT / "tests/find_kubectl"], check=True, capture_output=True, text=True).stdout.strip()


def check(objects, folder, version=VERSIONS[0]):
    """Refuses what `kubernetes-validate --strict` does not say has passed, or a custom resource's shape refuses."""
    file = folder / "objects.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    program = Path(sys.prefix) / "bin/kubernetes-validate"
    command = [program, "--strict", "--kubernetes-version", version, file]
    validated = subprocess.run(command, capture_output=True, text=True)
    said = (validated.stdout + validated.stderr).replace(f" {file}", "").splitlines()
    expected = [verdict(thing, version) for thing in objects]
    troubles = [line for line in said if line not in expected]
    # Nothing may be passed over: each object has its line.
    troubles += [f"kubernetes-validate does not say: {line}" for line in expected if line not in said]
    troubles += [trouble for thing in objects if is_custom(thing) for trouble in shapes.troubles(thing)]
    if troubles:
        raise Refused("\n".join(troubles))


def is_custom(thing):
    return shapes.kind(thing) in shapes.shapes()


def verdict(thing, version):
    """What kubernetes-validate says of an object that it takes, or of one that it does not know and lets pass."""
    kind, name = thing["kind"], thing["metadata"]["name"]
    if is_custom(thing):
        return f"WARN Couldn't find schema for kind {kind} with api version {thing['apiVersion']} for kubernetes version {version}"
    return f"INFO passed for resource {kind.lower()}/{name} against version {version}"


def check_compose(file):
    [schema] = [path for path in files("docker-compose") if path.name == "compose_spec.json"]
    try:
        jsonschema.Draft201909Validator(json.loads(schema.read_text())).validate(yaml.safe_load(file.read_text()))
    except jsonschema.ValidationError as error:
        raise Refused(f"{error.json_path}: {error.message}") from None
