"""Shapes of custom resources (shapes.yaml) as schemas that refuse every field they do not name."""

from functools import cache
from pathlib import Path

import kubernetes_validate
import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

METADATA = {"name!": "string", "namespace": "string", "labels": "map", "annotations": "map"}
SIMPLE = {
    "string": {"type": "string", "minLength": 1},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "map": {"type": "object", "additionalProperties": {"type": "string"}},
}
# Whole objects of Kubernetes around a part, so that its own schemas check the part.
HOSTS = {
    "@Pod": lambda part: {"apiVersion": "v1", "kind": "Pod", "spec": {"containers": part}},
    "@HorizontalPodAutoscaler": lambda part: {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "x"}, "behavior": part},
    },
}


def schema(shape):
    match shape:
        case dict():
            return {
                "type": "object",
                "additionalProperties": False,
                "properties": {name.rstrip("!"): schema(part) for name, part in shape.items()},
                "required": [name[:-1] for name in shape if name.endswith("!")],
            }
        case [item]:
            return {"type": "array", "minItems": 1, "items": schema(item)}
        case str() if shape in SIMPLE:
            return SIMPLE[shape]
        case str() if shape in HOSTS:
            return {"host": shape}
        case str() if shape.startswith("/"):
            return {"type": "string", "pattern": f"^({shape[1:-1]})$"}
        case str():
            return {"enum": shape.split("|")}
    raise ValueError(f"{shape} is no shape")


def check_host(_, host, part, __):
    try:
        kubernetes_validate.validate(HOSTS[host](part), "1.37", strict=True)
    except kubernetes_validate.ValidationError as error:
        yield ValidationError(str(error))


Shaped = validators.extend(Draft202012Validator, {"host": check_host})


@cache
def shapes():
    """By API version and kind, what stands in shapes.yaml."""
    return yaml.safe_load((Path(__file__).parent / "shapes.yaml").read_text())


def kind(thing):
    return f"{thing['apiVersion']} {thing['kind']}"


def troubles(thing):
    """Why a custom resource would be refused."""
    whole = {"apiVersion!": "string", "kind!": "string", "metadata!": METADATA, "spec!": shapes()[kind(thing)]}
    for error in Shaped(schema(whole)).iter_errors(thing):
        yield f"{kind(thing)} {error.json_path}: {error.message}"
