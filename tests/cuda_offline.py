"""Compiles the kernels that a call would launch, for a GPU that need not be there, and reads what came out.

`launched` runs a call on arrays that stand nowhere and catches its launches: so a kernel is compiled with the very
types, threads and shared memory that a user's call gives it. `compiled` takes it through NVVM and nvJitLink, as
numba-cuda does on a device, and counts registers, memory and instructions.

    python tests/cuda_table.py            # the table of all kernels, for sm_80, sm_90 and sm_90a
"""

import functools
import itertools
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

CAPABILITIES = ((8, 0), (9, 0), (9, 0, "a"))  # the last one with what only Hopper has
MULTIPLIES = "FFMA", "DFMA", "HMMA", "HGMMA"


class Nowhere:
    """A device array that has no memory, at an address of its own."""

    _addresses = itertools.count(1 << 30, 1 << 30)

    def __init__(self, *shape, dtype="float32", strides=None, address=None):
        kind, address = np.dtype(dtype), address or next(self._addresses)
        self.shape, self.dtype = shape, kind
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": kind.str,
            "data": (address, False),
            "strides": None if strides is None else tuple(s * kind.itemsize for s in strides),
            "version": 3,
        }


def launched(call):
    """[(kernel, types of its arguments, threads, shared bytes)] of the launches that `call()` would make."""
    from numba.cuda import types

    from fastnn.kernels import cuda
    from fastnn.kernels.cuda import launch, phases, toolchain
    from fastnn.kernels.program import KINDS

    for name in cuda.__all__:  # a module that came while launches are caught would keep what catches them
        getattr(cuda, name)
    for kind in KINDS:
        phases.operation_module(kind.name)

    known = {bool: types.boolean, int: types.int64, np.float32: types.float32, np.float64: types.float64}
    found = []

    def queue(launches, stream, *more):
        for each in launches:
            kinds = tuple(known[kind] for kind in each.kinds)
            found.append((each.kernel, kinds, int(np.prod(each.threads)), each.shared))

    def run(kernel, shape, stream, *arguments, shared=0, precision="float32", more=()):
        made = toolchain.Launch(kernel, *shape, shared, arguments, more)
        if more:  # what called queues it, with the rest of its arguments
            stream.append(made)
        else:
            queue([made], stream)

    modules = [module for name, module in sys.modules.items() if name.startswith("fastnn.kernels.cuda.")]
    with ExitStack() as patches:
        for module, (true, stand_in) in itertools.product(modules, ((launch.queue, queue), (launch.run, run))):
            if getattr(module, true.__name__, None) is true:
                patches.enter_context(mock.patch.object(module, true.__name__, stand_in))
        call()
    return found


def tools():
    """Whether kernels can be compiled and taken apart here; else what is missing."""
    try:
        import cuda.core  # noqa: F401
        import numba_cuda  # noqa: F401
    except ImportError as error:
        return f"no {error.name}: pip install 'fastnn-numba[cu13]'"
    return None if disassembler() else "no cuobjdump: pip install nvidia-cuda-cuobjdump nvidia-cuda-nvdisasm"


def disassembler():
    """Path of cuobjdump, or None."""
    inside = Path(sysconfig.get_path("purelib"), "nvidia").glob("*/bin/cuobjdump")
    return next((str(path) for path in inside), shutil.which("cuobjdump"))


def compiled(kernel, types, threads, capability):
    """What the compiler made of a kernel.

    Returns
    -------
    namespace
        registers, shared, stack and spilled bytes, `instructions`, a Counter by full name, and `densest`, instructions
        and multiply-adds of the stretch without a branch that has most of these.
    """
    from cuda.core import Linker, LinkerOptions, ObjectCode

    settings = LinkerOptions(arch=architecture(capability), link_time_optimization=True, ptxas_options=["-v"])
    linker = Linker(ObjectCode.from_ltoir(_intermediate(kernel, types, capability[:2])), options=settings)
    binary = bytes(linker.link("cubin").code)
    log = linker.get_info_log()

    def number(pattern):
        return sum(int(n) for n in re.findall(pattern, log))

    listing = instructions(binary)
    return SimpleNamespace(
        registers=number(r"Used (\d+) registers"),
        shared=number(r"(\d+) bytes smem"),
        stack=number(r"(\d+) bytes stack frame"),
        spilled=number(r"(\d+) bytes spill"),
        threads=threads,
        instructions=Counter(name for _, name, _ in listing),
        densest=_densest(listing),
    )


def instructions(binary):
    """[(address, name, rest)] of the instructions of a cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        listing = subprocess.run([disassembler(), "-sass", file.name], capture_output=True, text=True, check=True)
    return _INSTRUCTION.findall(listing.stdout)


def architecture(capability):
    """The compiler's name of a compute capability."""
    return "sm_" + "".join(map(str, capability))


@functools.lru_cache(1)  # sm_90 and sm_90a are made of the same
def _intermediate(kernel, types, capability):
    from numba import cuda
    from numba.cuda import dispatcher

    from fastnn.kernels.cuda.compiling import compiling

    # device functions ask for the device that they will run on
    here = SimpleNamespace(compute_capability=capability)
    options = {name: kernel.targetoptions[name] for name in ("fastmath", "launch_bounds")}
    with mock.patch.object(dispatcher, "get_current_device", lambda: here), compiling():
        code, _ = cuda.compile(
            kernel.py_func, types, device=False, abi="numba", cc=capability, output="ltoir", **options
        )
    return code


_INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)([^;]*)")


def _densest(found):
    """(instructions, multiply-adds) of the stretch between branches, or targets of them, with most multiply-adds."""
    of_branches = " ".join(rest for _, name, rest in found if name.startswith("BRA"))
    targets = {int(place, 16) for place in re.findall(r"0x[0-9a-f]+", of_branches)}
    stretches = [[0, 0]]
    for address, name, _ in found:
        if int(address, 16) in targets:
            stretches.append([0, 0])
        stretches[-1][0] += 1
        stretches[-1][1] += name.startswith(MULTIPLIES)
        if name.startswith("BRA"):
            stretches.append([0, 0])
    return tuple(max(stretches, key=lambda stretch: stretch[1]))


@contextmanager
def pretended(capability):
    """A current device that is not there: numba-cuda compiles and links for it as for a real one, and loads nothing."""
    from numba import cuda
    from numba.cuda import dispatcher
    from numba.cuda.cudadrv import devices

    from fastnn.kernels.cuda import cache

    def load(image, *callbacks):
        module = SimpleNamespace(initialized=True, image=bytes(image.code))
        module.get_function = lambda name: SimpleNamespace(module=module, name=name, kernel=None)
        return module

    here = SimpleNamespace(compute_capability=capability, id=0)
    context = SimpleNamespace(device=here, create_module_image=load)
    with ExitStack() as patches:
        for where, name, value in (
            (dispatcher, "get_current_device", lambda: here),
            (cache, "get_current_device", lambda: here),
            (cache.driver, "get_version", lambda: (13, 0)),
            (devices, "get_context", lambda *number: context),
            (cuda, "current_context", lambda: context),
        ):
            patches.enter_context(mock.patch.object(where, name, value))
        yield


def count(instructions, *families):
    """How many instructions begin with one of `families`."""
    return sum(n for name, n in instructions.items() if name.startswith(families))
