"""Every kernel, through the compiler that compiles it on a machine with a GPU."""

import ctypes
import re
import subprocess
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "kernels"
ARCHITECTURES = ["sm_75", "sm_80", "sm_90", "sm_100"]
# What the host looks up, by file.
NAMES = {
    "gather_rows": ["gather_rows"],
    "gather_f32": ["gather_f32"],
    "gather_windows": ["gather_windows_i32", "gather_windows_i64", "gather_windows_f32"],
    "gather_image": ["gather_image"],
    "state_gather": ["state_gather"],
    "state_scatter": ["state_scatter"],
} | {
    name: [f"{name}_f32", f"{name}_f16", f"{name}_bf16"]
    for name in ["softmax", "top_k", "argmax", "l2_normalize", "threshold"]
}
# Its lanes look at one element each, in turn.
NARROW = ["top_k"]


class Nvrtc:
    def __init__(self):
        # It asks the driver something, where there is one: here it finds the emulated one, loaded already.
        folder = subprocess.run(ROOT / "tests/emulator/build", check=True, stdout=subprocess.PIPE, text=True).stdout
        ctypes.CDLL(ROOT / folder.strip() / "libcuda.so.1")
        files = distribution("nvidia-cuda-nvrtc").files
        [path] = [file for file in files if re.fullmatch(r"libnvrtc\.so\.\d+", file.name)]
        self.library = ctypes.CDLL(path.locate())

    def call(self, name, *arguments):
        result = getattr(self.library, f"nvrtc{name}")(*arguments)
        assert result == 0, f"nvrtc{name}: {result}"

    def text(self, program, what):
        size = ctypes.c_size_t()
        self.call(f"Get{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self.call(f"Get{what}", program, text)
        return text.raw

    def compile(self, name, source, *options):
        """What the compiler says of a source, the PTX and the cubin."""
        program = ctypes.c_void_p()
        headers = [(KERNELS / "common.cuh").read_bytes()], [b"common.cuh"]
        headers = [(ctypes.c_char_p * 1)(*of) for of in headers]
        self.call("CreateProgram", ctypes.byref(program), source, f"{name}.cu".encode(), 1, *headers)
        options = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = self.library.nvrtcCompileProgram(program, len(options), options)
        log = self.text(program, "ProgramLog").rstrip(b"\0").decode()
        assert not failed, log
        ptx, cubin = self.text(program, "PTX").decode(), self.text(program, "CUBIN")
        self.call("DestroyProgram", ctypes.byref(program))
        return log, ptx, cubin


@pytest.fixture(scope="session")
def nvrtc():
    return Nvrtc()


def test_no_kernel_is_left_out():
    assert sorted(NAMES) == sorted(path.stem for path in KERNELS.glob("*.cu"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", NAMES)
def test_kernels_compile(nvrtc, name, architecture):
    options = [f"--gpu-architecture={architecture}", "--ptxas-options=--verbose"]
    source = (KERNELS / f"{name}.cu").read_bytes()
    log, ptx, cubin = nvrtc.compile(name, source, *options)
    said = [line for line in log.splitlines() if line.strip() and not line.startswith("ptxas ")]
    assert not said and "warning" not in log, log

    # One line a kernel, and one section of the cubin.
    spills = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    assert spills == [("0", "0", "0")] * len(NAMES[name]), log
    entries = dict(re.findall(r"\.entry (\w+)\((.*?)^}", ptx, re.DOTALL | re.MULTILINE))
    assert sorted(entries) == sorted(NAMES[name])
    for kernel, text in entries.items():
        assert f"\0.text.{kernel}\0".encode() in cubin
        wide = re.search(r"\b(ld|st)\.global[\w.]*\.v(4\.\w32|2\.\w64)", text)
        assert wide or name in NARROW, f"{kernel} moves no 16 bytes at once"


def test_warnings_are_seen(nvrtc):
    log, *_ = nvrtc.compile("x", b'extern "C" __global__ void x() { int unused; }', "--gpu-architecture=sm_90")
    assert "warning" in log
