"""Markdown of what the parts have found, for docs/PERFORMANCE.md."""

from statistics import median


def shown(value, form="{:,.0f}"):
    return "" if value is None else form.format(value)


def rows_of(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def failed(found):
    """Why there is nothing, as a line, or nothing."""
    return f"Not measured: {found['failed']}" if "failed" in found else ""


def per_model(found):
    return {name: one for name, one in found.items() if isinstance(one, dict)}


def yes(value):
    return "on" if value else "off"


def machine(about):
    gpus = "; ".join(about.get("gpus") or ["no GPU"])
    line = f"{about['date']}: {gpus}; {about['cores']} cores of {about['cpu']}, {about['memory_gib']} GiB; Linux {about['kernel']}; {about['thalweg']}"
    quick = "\n\n**A rehearsal: tiny models, short times. None of these figures means anything.**" if about["quick"] else ""
    return line + quick


def check(found):
    lines = []
    for numbers in ("fp32", "fp16"):
        report = found.get(numbers, {})
        if "failed" in report:
            lines.append(f"- {numbers}: {failed(report)}")
            continue
        passed = sum(one["passed"] for one in report["checks"])
        lines.append(f"- {report['device']}: {passed} of {len(report['checks'])} checks passed")
        for model in report["models"]:
            apart = shown(model.get("difference"), "{:.1e}") or "not compared, since it ran on the CPU"
            lines.append(f"- {model['name']}: differs by {apart} (tolerance {report['tolerance']})" + (f"; {model['error']}" if "error" in model else ""))
    streams = found.get("streams", {})
    lines.append(f"- {failed(streams)}" if "failed" in streams else f"- {streams['streams']:,} streams of the accumulator, {streams['steps']} steps each: {streams['wrong']} wrong answers")
    copies = found.get("fp32", {}).get("copies", [])
    return "\n".join(lines) + "\n\n" + rows_of(["copy of", "GB/s"], [[copy["direction"], f"{copy['bytes'] / copy['seconds'] / 1e9:.1f}"] for copy in copies])


def ceilings(found):
    rows = []
    for name, report in per_model(found).items():
        runs = {(run["rows"], run["graphs"]): run for run in report.get("alone", [])}
        for batch in sorted({batch for batch, _ in runs}):
            cells = []
            for graphs in (True, False):
                run = runs.get((batch, graphs), {})
                cells += [shown(run.get("run_us"), "{:,.1f}"), shown(run.get("rows_per_second"))]
            rows.append([name, batch, *cells])
        rows += [[name, why, "", "", "", ""] for why in report.get("failures", []) + ([report["failed"]] if "failed" in report else [])]
    return rows_of(["model", "batch", "µs a run, graphs", "rows/s", "µs a run, no graphs", "rows/s"], rows)


def lanes(found):
    rows = []
    for name, report in per_model(found).items():
        for lane in report.get("lanes", []):
            shares = [shown(lane.get(key), "{:.2f}") for key in ("computing", "copies_hidden")]
            told = [name, lane["rows"], yes(lane["graphs"]), lane["in_flight"], lane["instances"], shown(lane["rows_per_second"])]
            rows.append([*told, shown(lane["of_ceiling"], "{:.3f}"), *shares, shown(lane["cpu_us_per_row"], "{:.2f}")])
        why = report.get("failures", []) + ([report["failed"]] if "failed" in report else [])
        rows += [[name, one, *[""] * 8] for one in why]
    head = ["model", "batch", "graphs", "in flight", "instances", "rows/s", "of the ceiling", "computing", "copies hidden", "CPU µs a row"]
    return rows_of(head, rows)


def load_cells(one):
    if "failed" in one:
        return [failed(one), "", "", "", "", ""]
    times = [shown(one[key], "{:.2f}") for key in ("p50_ms", "p99_ms")]
    return [shown(one["rate"]), shown(one["cpu_us"], "{:.2f}"), *times, shown(one["batch"], "{:.1f}"), shown((one["client_busy"] or 0) * 100, "{:.0f} %")]


LOAD = ["messages/s", "CPU µs a message", "p50 ms", "p99 ms", "batch", "client busy"]


def best(ceiling):
    return max((run["rows_per_second"] for run in ceiling.get("alone", [])), default=None)


def server(found, ceiling):
    sockets = [[one["cores"], one["depth"], *load_cells(one)] for one in found["sockets"]]
    rows = []
    for name, steps in found["models"].items():
        for one in steps if isinstance(steps, list) else [steps]:
            top = best(ceiling.get(name, {}))
            rows.append([name, *load_cells(one), shown(one["rate"] / top, "{:.2f}") if top and "rate" in one else ""])
    return rows_of(["cores", "in flight", *LOAD], sockets) + "\n\n" + rows_of(["model", *LOAD, "of the ceiling"], rows)


def streams(found):
    rows = [[f"{step['streams']:,}", *load_cells(step), step["failures"], shown(step["server_cpu"], "{:.1f}")] for step in found["steps"]]
    line = f"Held: {shown(found['held']) or 'none'} streams, server on {found['server_cores']} cores."
    return line + "\n\n" + rows_of(["streams", *LOAD, "failures", "server's cores busy"], rows)


def latency(found, ceiling):
    rows = []
    for name, one in per_model(found).items():
        alone = [run["run_us"] for run in ceiling.get(name, {}).get("alone", []) if run["rows"] == 1]
        times = [failed(one), ""] if "failed" in one else [shown(one[key] * 1000) for key in ("p50_ms", "p99_ms")]
        rows.append([name, *times, shown(min(alone, default=None), "{:,.0f}")])
    return rows_of(["model", "p50 µs", "p99 µs", "the run alone, µs"], rows)


def memory(found):
    samples, rows = found["samples"], []
    for name in samples[0]:
        values = [sample[name] / 2**20 for sample in samples if name in sample]
        if "bytes" in name:
            third = max(1, len(values) // 3)
            early, late = median(values[:third]), median(values[-third:])
            rows.append([f"`{name}`", *(f"{value:,.1f}" for value in (min(values), max(values), early, late))])
    return f"{found['batches']:,} batches.\n\n" + rows_of(["MiB of", "least", "most", "first third", "last third"], rows)


def python(found):
    rows = []
    for name, both in per_model(found).items():
        rates = [both[who].get("rate") for who in ("fastapi", "thalweg")]
        factor = shown(rates[1] / rates[0], "{:.1f}") if all(rates) else ""
        rows += [[who, name, *load_cells(both[who]), factor if who == "thalweg" else ""] for who in both]
    return rows_of(["server", "model", *LOAD, "factor"], rows)


TITLES = {
    "check": "The device check",
    "ceilings": "ONNX Runtime alone",
    "lanes": "Lanes, fed from memory",
    "server": "The server, over loopback",
    "streams": "Real-time streams of Silero VAD",
    "latency": "One request at a time",
    "settings": "Graphs, batches in flight, instances",
    "memory": "Memory under mixed batch sizes",
    "python": "FastAPI with ONNX Runtime",
}


def table(bench):
    ceiling = bench.found("ceilings")
    makers = {
        "check": check,
        "ceilings": ceilings,
        "lanes": lanes,
        "settings": lanes,
        "server": lambda found: server(found, ceiling),
        "streams": streams,
        "latency": lambda found: latency(found, ceiling),
        "memory": memory,
        "python": python,
    }
    text = [machine(bench.found("machine"))]
    for part, title in TITLES.items():
        found = bench.found(part)
        body = failed(found) or makers[part](found) if found else "Not run."
        text.append(f"### {title}\n\n{body}")
    return "\n\n".join(text)
