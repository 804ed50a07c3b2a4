"""A stand-in for the driver of a GPU, by which the Python of the CUDA backend is counted and timed where there is none.

What is left out is what a driver and a GPU do: microseconds of a launch from here are those of Python alone.
"""

import ctypes
import functools
import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")


def load(folder):
    """Take the place of the driver in this process, before anything of CUDA is imported.

    Parameters
    ----------
    folder : path
        Of the caller's own, where the library is built if it is not there.

    Returns
    -------
    ctypes.CDLL
        With `fake_reset()` and `fake_calls(name)`.

    Raises
    ------
    NotImplementedError
        If there is no compiler of C.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise NotImplementedError("no compiler of C, by which the stand-in for a driver is built")
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(folder) / f"fake_driver_{digest}"
    library = folder / "libcuda.so.1"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # and then all at once: others may build it, too
            made = Path(scratch) / library.name
            command = [compiler, "-O2", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", "-o", made, SOURCE, "-ldl"]
            subprocess.run(command, check=True)
            made.replace(library)
    driver = ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # whoever asks for the name gets this one
    driver.fake_calls.restype, driver.fake_calls.argtypes = ctypes.c_long, [ctypes.c_char_p]
    return driver


def pretend():
    """Let an empty kernel stand for all, and plans find what theirs would have left: every step made, of loss 1."""
    import numpy as np
    from numba import cuda

    from fastnn.kernels.cuda import memory, toolchain
    from fastnn.kernels.tables import Run

    @cuda.jit
    def empty():
        pass

    code = toolchain.Launch(empty, 1, 1, 0, ()).loaded(toolchain.current_device())
    toolchain.Launch.loaded = lambda launch, device: code
    fetch = memory.Memory.fetch

    @functools.cache
    def array_at(address, size, dtype):
        return np.ctypeslib.as_array((np.ctypeslib.as_ctypes_type(dtype) * size).from_address(address))

    @functools.lru_cache(1)
    def left(table, results):
        return [array_at(int(a.__cuda_array_interface__["data"][0]), a.size, a.dtype) for a in (table, results)]

    def fetched(self, stay=(), **sizes):
        if "results" in sizes:
            table, results = left(self["table"], self["results"])
            table[Run.FINISHED] = table[Run.STEPS]
            results.fill(1.0)
        return fetch(self, stay, **sizes)

    memory.Memory.fetch = fetched
