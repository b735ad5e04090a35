#!/usr/bin/env python3
"""Compares shapes.yaml, and what is in deploy/, with the custom resource definitions themselves, which are not kept here.

    .venv/bin/python tests/deploy/against_crds.py FILE...

Each file is a CustomResourceDefinition, as the projects named in shapes.yaml release them.
"""

import sys
from pathlib import Path

import checks
import shapes
import yaml
from jsonschema import Draft202012Validator

FOLDERS = ["kubernetes/overlays/cpu", "kubernetes/overlays/cuda", "kserve"]


def definitions(paths):
    """By API version and kind, the schemas of versions that are served."""
    for path in paths:
        for file in yaml.safe_load_all(Path(path).read_text()):
            for version in file["spec"]["versions"]:
                if version["served"]:
                    name = f"{file['spec']['group']}/{version['name']} {file['spec']['names']['kind']}"
                    yield name, version["schema"]["openAPIV3Schema"]


def closed(schema):
    """The schema with unknown fields refused, as `kubectl apply` refuses them."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) if key not in ("enum", "required", "default") else part for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", bool(schema.get("x-kubernetes-preserve-unknown-fields")))
    return schema


def differences(shape, schema, at):
    """Where a shape allows what the definition does not, or does not ask for what that does."""
    if schema is None:
        yield f"{at}: the definition has no such field"
    elif isinstance(shape, str) and shape.startswith("@"):
        return
    elif isinstance(shape, dict):
        if schema.get("type") != "object":
            yield f"{at}: {schema.get('type')} and no object"
        needed = {name[:-1] for name in shape if name.endswith("!")}
        for name in set(schema.get("required", [])) - needed:
            yield f"{at}.{name}: needed, and the shape does not say so"
        for name, part in shape.items():
            name = name.rstrip("!")
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties") or None
            yield from differences(part, inner, f"{at}.{name}")
    elif isinstance(shape, list):
        if schema.get("type") != "array":
            yield f"{at}: {schema.get('type')} and no array"
        yield from differences(shape[0], schema.get("items"), f"{at}[]")
    else:
        own = shapes.schema(shape)
        kind = own.get("type", "string")
        if schema.get("type") != kind:
            yield f"{at}: {schema.get('type')} and no {kind}"
        for word in set(own.get("enum", [])) - set(schema.get("enum", own.get("enum", []))):
            yield f"{at}: {word} is not among {schema['enum']}"


def main():
    found = dict(definitions(sys.argv[1:]))
    count, troubles = 0, []
    for kind, shape in shapes.shapes().items():
        if kind not in found:
            troubles.append(f"{kind}: no file defines it")
            continue
        troubles += differences(shape, found[kind]["properties"]["spec"], kind)
    for folder in FOLDERS:
        for thing in checks.build(checks.DEPLOY / folder):
            if schema := found.get(shapes.kind(thing)):
                count += 1
                # The definition leaves it to Kubernetes.
                schema = closed(schema)
                schema["properties"]["metadata"] = {}
                errors = Draft202012Validator(schema).iter_errors(thing)
                troubles += [f"{folder}: {shapes.kind(thing)} {error.json_path}: {error.message}" for error in errors]
    print(*troubles, f"{len(found)} definitions, {count} objects, {len(troubles)} troubles", sep="\n")
    return bool(troubles)


if __name__ == "__main__":
    sys.exit(main())
