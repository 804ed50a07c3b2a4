"""A stand-in for the driver of a GPU, by which the Python of the CUDA backend is counted and timed where there is none.

What is left out is what a driver and a GPU do: microseconds of a launch from here are those of Python alone.
"""

import ctypes
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
    driver.fake_run.argtypes = [ctypes.c_uint64] * 3 + [ctypes.c_long]
    return driver


def pretend(driver):
    """Let an empty kernel stand for all, and plans find what theirs would have left: every step made, of loss 1.

    Parameters
    ----------
    driver : ctypes.CDLL
        What `load` gave.
    """
    from numba import cuda

    from fastnn.kernels.cuda import memory, toolchain
    from fastnn.kernels.tables import Run

    @cuda.jit
    def empty():
        pass

    code = toolchain.Launch(empty, 1, 1, 0, ()).loaded(toolchain.current_device())
    toolchain.Launch.loaded = lambda launch, device: code
    lay_out = memory.Memory.lay_out

    def laid_out(self, **sizes):
        lay_out(self, **sizes)
        if "results" in sizes:
            block, table, results = (self.address(name) for name in (next(iter(sizes)), "table", "results"))
            driver.fake_run(block, table, results, sizes["results"][0])

    memory.Memory.lay_out = laid_out
    driver.fake_table(Run.STEPS, Run.FINISHED)
