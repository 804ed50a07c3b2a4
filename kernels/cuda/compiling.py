"""How a kernel of a GPU is compiled in two thirds of the time; without numba-cuda's private names it takes all of it.

Best of three, float32, for sm_90, on a Xeon: the loop of one block takes 4.1 s instead of 6.1, that of a grid 4.2
instead of 6.6, the 17 kernels of a graph 5.2 instead of 7.6.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..compiler import quickly

try:
    from numba.cuda import config
    from numba.cuda.codegen import CUDACodeLibrary
    from numba.cuda.core.compiler_lock import global_compiler_lock
except ImportError:
    CUDACodeLibrary = None


def quick(dispatcher: Any) -> Any:
    """The same kernel, compiled by `compiling`."""
    compile_for = dispatcher.compile

    def compiled(signature):
        with compiling():
            return compile_for(signature)

    dispatcher.compile = compiled
    return dispatcher


@contextmanager
def compiling() -> Iterator[None]:
    """A compilation of numba-cuda: as on the CPU, and of the two that NVVM makes of a kernel only that which is linked.

    The other one, 0.8 s of a loop, makes PTX, in which numba-cuda looks for names of what it has to link. They stand in
    the LLVM IR, too.
    """
    if CUDACodeLibrary is None:
        yield
        return
    with global_compiler_lock, quickly():
        written = CUDACodeLibrary.get_asm_str
        if not getattr(config, "CUDA_ENABLE_NRT", False):  # whose names it finds in PTX alone
            CUDACodeLibrary.get_asm_str = lambda library, cc=None: library.get_llvm_str()
        try:
            yield
        finally:
            CUDACodeLibrary.get_asm_str = written
