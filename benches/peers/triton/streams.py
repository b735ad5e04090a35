"""Real-time streams of Silero on Triton: `streams.py COUNT [ADDRESS]`, as `end_to_end -- streams` does it for the others.

Each stream is a gRPC stream of its own and a sequence; a chunk of 32 ms is sent each 32 ms, starts spread evenly; an
answer's latency counts from the time at which its chunk was due.
"""

import asyncio
import sys
import time

import numpy as np
import tritonclient.grpc.aio as triton

TICK = 0.032
WARM_UP, TICKS = 31, 220  # of them
PATIENCE = 2  # seconds


async def run_stream(address, id, first, latencies):
    random = np.random.default_rng(id)
    due = [first + tick * TICK for tick in range(TICKS)]
    window = np.zeros((1, 576), np.float32)

    async def requests():
        for tick, moment in enumerate(due):
            await asyncio.sleep(moment - time.monotonic())
            window[:, :64] = window[:, 512:]
            window[:, 64:] = random.integers(-8192, 8192, 512) / 32768
            tensor = triton.InferInput("input", [1, 576], "FP32")
            tensor.set_data_from_numpy(window)
            yield {
                "model_name": "silero_vad",
                "inputs": [tensor],
                "sequence_id": id,
                "sequence_start": tick == 0,
                "sequence_end": tick == TICKS - 1,
            }

    async with triton.InferenceServerClient(address) as client:
        tick = 0
        async for result, error in client.stream_infer(requests()):
            if error:
                raise error
            if tick >= WARM_UP:
                latencies.append(time.monotonic() - due[tick])
            tick += 1
            if tick == TICKS:
                return


async def main(count, address):
    latencies, start = [], time.monotonic() + 1
    streams = [run_stream(address, id + 1, start + id * TICK / count, latencies) for id in range(count)]
    await asyncio.wait_for(asyncio.gather(*streams), 1 + TICKS * TICK + PATIENCE)
    p50, p99 = np.percentile(latencies, [50, 99]) * 1e3
    print(f"{count} streams: p50 {p50:.2f} ms, p99 {p99:.2f} ms, {'held' if p99 < TICK * 1e3 else 'not held'}")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8001"))
