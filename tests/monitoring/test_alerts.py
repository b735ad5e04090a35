"""A real Prometheus watches real servers: each alert fires when its trouble is brought about, and clears after."""

import re
import threading

import pytest
from conftest import STOP_SECONDS, Server, running
from faults import (
    FOR_EVER, HARMLESS, LARGE, SLOTS, SLOW, at_one_address, certificate, keep_asking, loop, meanwhile, post,
    repository, run_out_of_descriptors, stay, stop_most_of_the_time,
)
from prometheus import prometheus, until
from test_rules import alerts

# Which alerts have fired here and cleared.
proven = set()


@pytest.fixture(scope="module")
def watcher(tmp_path_factory):
    with prometheus(tmp_path_factory.mktemp("prometheus")) as watcher:
        # As long as it knows of no server.
        proves(watcher, "ThalwegAbsent")
        yield watcher


@pytest.fixture
def models(tmp_path, monkeypatch):
    # A build with GPU support would fall back to the CPU, which is a trouble of its own.
    monkeypatch.setenv("THALWEG_DEVICE", "cpu")
    return repository(tmp_path / "models", slow=SLOW, accumulator=SLOTS, endless="max_batch_size = 64\n")


def proves(watcher, *names):
    watcher.until_fired(*names)
    proven.update(names)


def test_it_is_quiet_when_all_is_well(watcher, models):
    with running(models) as server:
        watcher.watch(server.address)
        watcher.until_quiet()
        with meanwhile(lambda: post(server.address, "endless", HARMLESS)):
            rate = "job_model:thalweg_request_failures:ratio_rate6h"
            until("no rate of failures", lambda: any(value == 0 for _, value in watcher.query(rate)))
        assert not watcher.firing()
        assert {rule["health"] for rule in watcher.rules()} == {"ok"}


def test_a_model_that_hangs(watcher, models):
    with at_one_address(models, flags=["--run-timeout", "1"]) as (address, restart):
        watcher.watch(address)
        # Each run that is given up is a failure of its instance, and with the eleventh it is not started again.
        with meanwhile(lambda: post(address, "endless", FOR_EVER)):
            proves(
                watcher, "ThalwegRunsGivenUp", "ThalwegLaneRestarts", "ThalwegFailuresFast", "ThalwegFailuresSlowly",
                "ThalwegLaneDown", "ThalwegNotReady",
            )
        restart()
        watcher.until_quiet()


def test_a_server_that_is_crowded(watcher, models):
    limits = ["--max-connections", "10", "--max-request-memory", "22KiB", "--max-message-size", "16KiB"]
    with running(models, flags=limits) as server:
        watcher.watch(server.address)
        watcher.until_quiet()
        with loop() as begin:
            for _ in range(2):
                begin(stay(server, "/v2/models/accumulator/stream"))
            for _ in range(8):
                begin(keep_asking(server, "slow", LARGE, 4))
            proves(
                watcher, "ThalwegQueueFilling", "ThalwegQueueSlow", "ThalwegSlowFast", "ThalwegSlowSlowly",
                "ThalwegNoFreeSlots", "ThalwegRequestMemoryFull", "ThalwegConnectionsFull",
            )
        watcher.until_quiet()


def test_a_server_that_starves(watcher, models):
    with running(models) as server:
        watcher.watch(server.address)
        watcher.until_quiet()
        with meanwhile(lambda: run_out_of_descriptors(server)):
            proves(watcher, "ThalwegFileDescriptorsFull", "ThalwegAcceptFails")
        watcher.until_quiet()
        with meanwhile(lambda: stop_most_of_the_time(server)):
            proves(watcher, "ThalwegEventLoopLags")
        watcher.until_quiet()


def test_a_certificate_that_expires(watcher, models, tmp_path):
    certificate(tmp_path, days=3)
    flags = ["--tls-certificate", tmp_path / "tls.crt", "--tls-key", tmp_path / "tls.key"]
    server = Server([models], *flags, "--metrics-listen", "127.0.0.1:0")
    try:
        metrics = until(server.tail, lambda: re.search(r"metrics on (\S+)", server.tail()))
        watcher.watch(metrics[1])
        proves(watcher, "ThalwegCertificateExpires")
        certificate(tmp_path, days=300)
        watcher.until_quiet()
    finally:
        server.stop()


def test_a_gpu_that_is_not_there(watcher, models, monkeypatch):
    """Needs a build with the feature `cuda`, as `make monitoring` makes it, and hides the GPU if there is one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with at_one_address(models, flags=["--device", "auto"]) as (address, restart):
        watcher.watch(address)
        proves(watcher, "ThalwegGpuFallback")
        restart()
        watcher.until_quiet()


def test_a_server_that_ends(watcher, models):
    with loop() as begin:
        server = Server([models], "--grace-period", "24")
        server.wait_until_ready()
        watcher.watch(server.address)
        watcher.until_quiet()
        staying = begin(stay(server, "/v2/models/accumulator/stream"))
        until("no stream is open", lambda: 'thalweg_connections{endpoint="stream"} 1' in server.get("/metrics"))
        server.process.terminate()
        proves(watcher, "ThalwegDrainStuck")
        staying.cancel()
        assert server.process.wait(STOP_SECONDS) == 0
        # Nobody starts it again.
        proves(watcher, "ThalwegDown")
        watcher.watch()
        until(watcher.firing, lambda: not watcher.firing() & {"ThalwegDrainStuck", "ThalwegDown"})


def test_a_server_that_is_started_again_and_again(watcher, models):
    with at_one_address(models) as (address, restart):
        watcher.watch(address)
        with meanwhile(restart):
            proves(watcher, "ThalwegRestarting")
        watcher.until_quiet()


def test_every_alert_has_fired(watcher):
    assert proven == set(alerts()), "these have not fired here"
