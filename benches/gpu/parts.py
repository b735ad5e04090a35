"""The parts of the proof. Each measures one thing, ends within eight minutes, and gives back what it writes as JSON."""

import random
import time

import models
from machine import Failed, Server, figures, load, run, serve
from wire import Socket

# Of the models that are compared with the CPU: how far their numbers may be apart. A GPU multiplies FP32 as TF32, with
# 10 bits, over dozens of layers.
TOLERANCES = {"fp32": 1e-2, "fp16": 5e-2}
# Enough for the CPU's half of the comparison to end.
COMPARED = 4

# Model → the batch sizes at which it is measured alone, and those at which it is fed.
SIZES = {
    models.SILERO: ([1, 64, 256, 1024], [256, 1024]),
    "bert_fp32": ([1, 8, 32, 64], [32]),
    "bert_fp16": ([1, 8, 32, 128], [32, 128]),
    "resnet50_fp32": ([1, 8, 64], [64]),
    "resnet50_fp16": ([1, 8, 64, 128], [64, 128]),
    "mlp1024": ([1, 64, 256, 1024], [256, 1024]),
}
QUICK = {models.SILERO: ([1, 8], [8]), "mlp1024": ([1, 8], [8])}


def sizes(bench):
    return QUICK if bench.quick else SIZES


def listed(numbers):
    return ",".join(str(number) for number in numbers)


def attempt(measure, *arguments, **named):
    """A figure, or why there is none: what fails of one model leaves the others alone."""
    try:
        return measure(*arguments, **named)
    except Failed as failure:
        return {"failed": str(failure)}


def make_models(bench):
    """The models, random weights and all, made here."""
    start = time.monotonic()
    models.make(bench.repository, models.MODELS, bench.quick)
    models.silero(bench.bundled, bench.repository, 64 if bench.quick else 1024, 32_768)
    files = bench.repository.glob("*/1/model*.onnx")
    found = {f"{file.parts[-3]}/{file.name}": file.stat().st_size for file in files}
    return {"bytes": found, "seconds": round(time.monotonic() - start, 1)}


def check(bench):
    """1: device-check, the served results of each model against the CPU's, and a thousand streams with a state each."""
    found = {}
    for numbers, tolerance in TOLERANCES.items():
        repository = bench.work / f"check-{numbers}"
        for name in (models.SILERO, *models.MODELS):
            if (numbers == "fp16") == name.endswith("fp16"):
                settings = (bench.repository / name / "model.toml").read_text().splitlines()
                settings[settings.index(next(line for line in settings if "max_batch_size" in line))] = (
                    f"max_batch_size = {COMPARED}"
                )
                models.linked(repository, bench.repository, name, "\n".join(settings) + "\n")
        arguments = ["device-check", "--json", "--tolerance", str(tolerance), *bench.settings(repository)]
        found[numbers] = attempt(bench.json, *arguments, limit=200, partial=True)
        found[numbers]["tolerance"] = tolerance
        found[numbers]["failures"] = [
            *(one["check"] for one in found[numbers].get("checks", []) if not one["passed"]),
            *(f"{one['name']}: {one['error']}" for one in found[numbers].get("models", []) if "error" in one),
        ]
    found["streams"] = attempt(keep_state, bench, 1000, 3 if bench.quick else 10)
    return found


def keep_state(bench, streams, steps, at_once=100):
    """So many sequences over one socket; each answer is the sum of what its own sequence has sent."""
    numbers, wrong, sums = random.Random(1), 0, [[0.0] * 4 for _ in range(streams)]
    server_cores, _ = bench.split(len(bench.cores) // 2)
    only = bench.work / "accumulator"
    models.linked(only, bench.repository, "accumulator", (bench.repository / "accumulator/model.toml").read_text())
    with serve(bench, server_cores, repository=only) as server:
        socket = Socket(server.address, "/v2/models/accumulator/infer")
        for step in range(steps):
            order = numbers.sample(range(streams), streams)
            for first in range(0, streams, at_once):
                asked = order[first : first + at_once]
                for stream in asked:
                    row = [float(numbers.randrange(1000)) for _ in range(4)]
                    sums[stream] = [have + more for have, more in zip(sums[stream], row)]
                    flags = {"sequence_id": stream + 1, "sequence_start": step == 0, "sequence_end": step == steps - 1}
                    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}
                    socket.send({"id": str(stream), "parameters": flags, "inputs": [tensor]})
                for stream in asked:
                    answer = socket.receive()
                    if "error" in answer or answer.get("id") != str(stream):
                        raise Failed(f"stream {stream}, step {step}: {answer}")
                    wrong += answer["outputs"][0]["data"] != sums[stream]
        socket.close()
    if wrong:
        raise Failed(f"{wrong} of {streams * steps} answers were not the sum of their stream")
    return {"streams": streams, "steps": steps, "wrong": wrong}


def ceilings(bench):
    """2: ONNX Runtime alone, by model and batch size, with and without CUDA graphs. (The copies are in `check`.)"""
    each = "50ms" if bench.quick else "500ms"
    measure = lambda name, batches: bench.ceiling(name, "--alone", "--batch", listed(batches), "--each", each)
    return {name: attempt(measure, name, alone) for name, (alone, _) in sizes(bench).items()}


def lanes(bench):
    """3: lanes fed from memory, as a ratio of the ceiling of the same process, with a timeline of the last ones."""
    each, found = "300ms" if bench.quick else "2s", {}
    for name, (_, fed) in sizes(bench).items():
        timeline = bench.out / f"timeline-{name}.json"
        asked = ["--graphs", "on", "--in-flight", "1,2", "--batch", listed(fed), "--each", each, "--timeline", timeline]
        found[name] = attempt(bench.ceiling, name, *asked)
    return found


def server(bench):
    """4: messages over loopback sockets, by cores of the server, and large models against their ceiling."""
    seconds, found = ("1s", "500ms") if bench.quick else ("5s", "2s"), {"sockets": [], "models": {}}
    times = ["--duration", seconds[0], "--warm-up", seconds[1]]
    counts = [count for count in (1, 2, 4, 8, 12) if count < len(bench.cores)] or [1]
    for count in counts[:1] if bench.quick else counts:
        cores, clients = bench.split(count)
        only = bench.work / "mlp64"
        models.linked(only, bench.repository, "mlp64", (bench.repository / "mlp64/model.toml").read_text())
        with serve(bench, cores, repository=only) as running:
            for depth in (1, 16):
                asked = ["-c", str(64 * max(1, count)), "-d", str(depth), *times]
                report = attempt(load, bench, running, clients, "mlp64", *asked)
                told = {"cores": count, "clients": len(clients), "depth": depth}
                found["sockets"].append(told | (report if "failed" in report else figures(report["steps"][0])))
    cores, clients = bench.split(len(bench.cores) // 2)
    with serve(bench, cores) as running:
        for name in sizes(bench):
            if name != models.SILERO:
                report = attempt(load, bench, running, clients, name, "-c", "64" if bench.quick else "128", "-d", "2,8", *times)
                found["models"][name] = report if "failed" in report else [figures(step) for step in report["steps"]]
    return found


def streams(bench):
    """5: the most real-time Silero streams whose p99 stays below one chunk."""
    cores, clients = bench.split(len(bench.cores) * 9 // 16)
    only = bench.work / "silero"
    settings = (bench.repository / models.SILERO / "model.toml").read_text()
    models.linked(only, bench.repository, models.SILERO, settings)
    # Quickly: a bound that hardly anything holds, so that the search is over soon.
    first, below, seconds = ("2", "1ms", "500ms") if bench.quick else ("8000", "32ms", "5s")
    asked = ["--target", "stream", "-c", first, "--search", "streams", "--below", below, "--precision", "4"]
    asked += ["--duration", seconds, "--warm-up", "100ms" if bench.quick else "2s"]
    with serve(bench, cores, "--max-connections", "65536", repository=only) as running:
        report = load(bench, running, clients, models.SILERO, *asked, limit=440)
        metrics = running.metrics()
    steps = [{"streams": step["connections"]["asked"], **figures(step)} for step in report["steps"]]
    gpu = {name: value for name, value in metrics.items() if name.startswith("thalweg_gpu_utilization")}
    return {"held": report["search"].get("held"), "server_cores": len(cores), "steps": steps, "gpu": gpu}


def latency(bench):
    """6: one request at a time through the server."""
    seconds, found = "500ms" if bench.quick else "5s", {}
    cores, clients = bench.split(len(bench.cores) // 2)
    with serve(bench, cores) as running:
        for name in sizes(bench):
            if name != models.SILERO:
                asked = ["-c", "1", "-d", "1", "--duration", seconds, "--warm-up", "500ms"]
                report = attempt(load, bench, running, clients[:1], name, *asked)
                found[name] = report if "failed" in report else figures(report["steps"][0])
        asked = ["--target", "stream", "-c", "1", "--duration", seconds, "--warm-up", "500ms"]
        report = attempt(load, bench, running, clients[:1], models.SILERO, *asked)
        found[models.SILERO] = report if "failed" in report else figures(report["steps"][0])
    return found


def settings(bench):
    """7: CUDA graphs on and off, one and two batches in flight, one and two instances."""
    each, found = "200ms" if bench.quick else "1s", {}
    for name, (_, fed) in sizes(bench).items():
        asked = ["--in-flight", "1,2", "--instances", "1,2", "--batch", str(fed[0]), "--each", each]
        found[name] = attempt(bench.ceiling, name, *asked, limit=120)
    return found


def memory(bench):
    """8: what lanes hold while batches of all sizes pass."""
    names = [name for name in ("mlp1024", "resnet50_fp16", "bert_fp16") if name in sizes(bench)]
    kept = ("thalweg_gpu_memory_bytes", "process_resident_memory_bytes", "process_open_fds")
    numbers, samples, end = random.Random(1), [], time.monotonic() + (0 if bench.quick else 150)
    cores, clients = bench.split(len(bench.cores) // 2)
    batches = 0
    with serve(bench, cores) as running:
        while time.monotonic() < end or len(samples) < 3:
            for name in names:
                counts = listed(numbers.sample(range(1, 200), 3))
                asked = ["-c", counts, "-d", f"1,{numbers.randrange(2, 8)}", "--duration", "100ms" if bench.quick else "500ms", "--warm-up", "10ms"]
                report = load(bench, running, clients, name, *asked)
                batches += sum(step["requests"]["succeeded"] / (figures(step)["batch"] or 1) for step in report["steps"])
            samples.append({name: value for name, value in running.metrics().items() if name.startswith(kept)})
    return {"batches": round(batches), "samples": samples}


def python(bench):
    """9: ONNX Runtime in Python behind a FastAPI WebSocket, with the same client."""
    code = "import fastapi, uvicorn, websockets, numpy, onnxruntime; print(onnxruntime.get_available_providers())"
    done = run([bench.python, "-c", code], 60)
    provider = "CPUExecutionProvider" if bench.device == "cpu" else "CUDAExecutionProvider"
    if done.returncode or provider not in done.stdout:
        raise Failed(f"{bench.python} has not all of it: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    found, cores = {}, bench.split(len(bench.cores) // 2)
    peer = models.__file__.replace("models.py", "fastapi_server.py")
    for name in ("mlp1024",) if bench.quick else ("mlp1024", "bert_fp16", "resnet50_fp16"):
        path = bench.repository / name / "1/model.onnx"
        seconds = ["--duration", "500ms" if bench.quick else "5s", "--warm-up", "100ms" if bench.quick else "1s"]
        command = [bench.python, peer, name, path, provider]
        asked = ["-c", "64", "-d", "1", *seconds]
        with Server(command, cores[0], bench.out / "peer.log") as running:
            theirs = attempt(load, bench, running, cores[1], name, *asked)
        # Fed with what the model takes, as there: no conversion on either side.
        only = bench.work / f"plain-{name}"
        models.linked(only, bench.repository, name, (bench.repository / name / "model.toml").read_text().split("[")[0])
        with serve(bench, cores[0], repository=only) as running:
            ours = attempt(load, bench, running, cores[1], name, *asked)
        told = [one if "failed" in one else figures(one["steps"][0]) for one in (theirs, ours)]
        found[name] = dict(zip(("fastapi", "thalweg"), told))
    return found


PARTS = {
    "models": make_models,
    "check": check,
    "ceilings": ceilings,
    "lanes": lanes,
    "streams": streams,
    "server": server,
    "settings": settings,
    "latency": latency,
    "memory": memory,
    "python": python,
}
