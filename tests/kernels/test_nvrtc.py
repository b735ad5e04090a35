"""Every kernel, compiled by the compiler that compiles it on a machine with a GPU."""

import ctypes
import re
from importlib.metadata import distribution
from pathlib import Path

import pytest

KERNELS = Path(__file__).parents[2] / "kernels"
ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_100"]
FLOATS = ["f32", "f16", "bf16"]
# What the host looks up, by file.
NAMES = {
    "gather_rows": ["gather_rows"],
    "gather_f32": ["gather_f32"],
    "gather_windows": ["gather_windows_i32", "gather_windows_i64", "gather_windows_f32"],
    "gather_image": ["gather_image"],
    "state_gather": ["state_gather"],
    "state_scatter": ["state_scatter"],
    **{name: [f"{name}_{of}" for of in FLOATS] for name in ["softmax", "top_k", "argmax", "l2_normalize", "threshold"]},
}


def nvrtc():
    [path] = [file for file in distribution("nvidia-cuda-nvrtc").files if re.fullmatch(r"libnvrtc\.so\.\d+", file.name)]
    return ctypes.CDLL(path.locate())


def compile(library, name, architecture, *options):
    """The log and the cubin of a file."""
    program = ctypes.c_void_p()
    source = (KERNELS / f"{name}.cu").read_bytes()
    header = (KERNELS / "common.cuh").read_bytes()
    headers, names = (ctypes.c_char_p * 1)(header), (ctypes.c_char_p * 1)(b"common.cuh")
    assert library.nvrtcCreateProgram(ctypes.byref(program), source, f"{name}.cu".encode(), 1, headers, names) == 0
    options = [f"--gpu-architecture={architecture}", *options]
    options = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    failed = library.nvrtcCompileProgram(program, len(options), options)

    def get(what):
        size = ctypes.c_size_t()
        assert getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)) == 0
        text = ctypes.create_string_buffer(size.value)
        assert getattr(library, f"nvrtcGet{what}")(program, text) == 0
        return text.raw

    log = get("ProgramLog").rstrip(b"\0").decode()
    cubin = b"" if failed else get("CUBIN")
    library.nvrtcDestroyProgram(ctypes.byref(program))
    return log, cubin


@pytest.fixture(scope="session")
def library():
    return nvrtc()


if __name__ == "__main__":
    lib = nvrtc()
    for a in ARCHITECTURES:
        for n in NAMES:
            log, cubin = compile(lib, n, a, "--ptxas-options=--verbose", "--ptxas-options=--warn-on-spills")
            print(a, n, len(cubin), log)
