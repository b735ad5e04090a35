"""The proof for a GPU (`benches/gpu`), rehearsed on the CPU: all parts but the one that needs FastAPI. No time is asserted."""

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "benches/gpu"
BINARY = os.environ.get("THALWEG_BIN", ROOT / "target/debug/thalweg")
sys.path.insert(0, str(BENCH))

import models  # noqa: E402
from onnx_file import FLOAT, FLOAT16  # noqa: E402
from parts import PARTS  # noqa: E402

REHEARSED = [part for part in PARTS if part != "python"]


def prove(folder, *arguments):
    command = [sys.executable, BENCH / "prove", "--quick", "--thalweg", BINARY, "--out", folder / "out", "--work", folder / "work"]
    return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=240)


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("proof")
    done = prove(folder, "--device", "cpu", *REHEARSED, "table")
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = {part: json.loads((folder / "out" / f"{part}.json").read_text()) for part in REHEARSED}
    return folder, found, done.stdout


def test_the_models_are_as_onnx_wants_them(rehearsal):
    for name in models.MODELS:
        path = rehearsal[0] / "work/quick" / name / "1/model.onnx"
        onnx.checker.check_model(path, full_check=True)
        assert onnx.load(path).producer_name == "thalweg"


@pytest.mark.parametrize("datatype, size", [(FLOAT, 4), (FLOAT16, 2)])
def test_a_resnet_has_as_many_weights_as_it_should(datatype, size):
    raw = sum(len(chunk) for chunk in models.resnet50(datatype, False).initializers)
    assert abs(raw / size / 25.53e6 - 1) < 0.01


def test_the_same_models_come_out_again(tmp_path, rehearsal):
    models.make(tmp_path, ["bert_fp16"], True)
    path = Path("bert_fp16/1/model.onnx")
    assert (tmp_path / path).read_bytes() == (rehearsal[0] / "work/quick" / path).read_bytes()


def test_the_checks_pass_and_every_stream_keeps_its_state(rehearsal):
    found = rehearsal[1]["check"]
    for numbers in ("fp32", "fp16"):
        assert all(check["passed"] for check in found[numbers]["checks"])
        assert found[numbers]["models"] and not any("error" in model for model in found[numbers]["models"])
    assert found["streams"] == {"streams": 1000, "steps": 3, "wrong": 0}


def test_lanes_have_a_ceiling_and_a_timeline(rehearsal):
    folder, found, _ = rehearsal
    for name, report in found["lanes"].items():
        if isinstance(report, dict):
            assert [lane["rows"] for lane in report["lanes"]] == [8] and report["lanes"][0]["of_ceiling"] > 0
            assert report["lanes"][0]["mean_batch"] > 7.5, "there is always a full batch"
            events = json.loads((folder / "out" / f"timeline-{name}.json").read_text())["traceEvents"]
            assert {event["name"].split()[0] for event in events} == {"pack", "launch"}
    instances = {lane["instances"] for lane in found["settings"]["mlp1024"]["lanes"]}
    assert instances == {1, 2}


def test_the_server_answers_rightly_in_every_part(rehearsal):
    found = rehearsal[1]
    steps = found["server"]["sockets"] + found["server"]["models"]["mlp1024"] + found["streams"]["steps"]
    steps += [one for one in found["latency"].values() if isinstance(one, dict)]
    assert len(steps) >= 7
    assert all(step["rate"] > 0 and step["failures"] == 0 for step in steps), steps
    assert len(found["memory"]["samples"]) == 3


def test_the_table_has_all_of_it(rehearsal):
    _, _, told = rehearsal
    sections = told.split("### ")[1:]
    missing = [section.splitlines()[0] for section in sections if "Not run" in section or "Not measured" in section]
    assert len(sections) == 9 and missing == ["FastAPI with ONNX Runtime"]
    assert "A rehearsal" in told, "nobody takes it for a measurement"


def test_what_breaks_loses_only_itself(tmp_path, rehearsal):
    (tmp_path / "work").symlink_to(rehearsal[0] / "work")
    done = prove(tmp_path, "--device", "cuda", "latency", "ceilings", "models")
    assert done.returncode == 1, done.stdout
    found = {part: json.loads((tmp_path / "out" / f"{part}.json").read_text()) for part in ("latency", "ceilings", "models")}
    assert "GPU" in found["latency"]["failed"] and "GPU" in found["ceilings"]["mlp1024"]["failed"]
    assert "failed" not in found["models"] and "models: done" in done.stdout
