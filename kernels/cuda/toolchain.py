"""The one place that imports what is public in numba-cuda, and the decorators of every kernel and device function.

Kernels take addresses, strides and sizes as integers, and numbers in the dtype that they are made for: so each is
compiled once for a dtype, whatever the arrays, and a launch has no array to describe.
"""

import ctypes
import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ..distribution import pip_install
from ..options import GPU_DEVICE, GPU_KERNEL, SHARED_BYTES

if importlib.util.find_spec("numba_cuda") is None:
    raise ImportError(f"CUDA kernels need numba-cuda: {pip_install('cu13')} (or cu12, by your driver)")

from numba import cuda
from numba.cuda import config

from .cache import kept
from .compiling import quick

Define = TypeVar("Define", bound=Callable[..., Any])

# True with NUMBA_ENABLE_CUDASIM=1: kernels are plain Python on arrays of NumPy, over the primitives of plain.py.
SIMULATED = bool(config.ENABLE_CUDASIM)
if not SIMULATED:
    from cuda.bindings import driver  # which numba-cuda needs, too
    from cuda.core import Device, LaunchConfig, Stream, launch
    from numba.cuda.cudadrv.devicearray import DeviceNDArray as NumbaArray

    _NO_CONTEXT = driver.CUresult.CUDA_ERROR_INVALID_CONTEXT, driver.CUresult.CUDA_ERROR_NOT_INITIALIZED
else:
    NumbaArray = None


@functools.cache  # an error is not kept: a driver may come
def check() -> None:
    """Raise RuntimeError where no kernel can run."""
    if not cuda.is_available():
        raise RuntimeError(f"CUDA kernels need an NVIDIA GPU and its driver; numba-cuda says: {cuda.cuda_error()}")


@dataclass(slots=True)
class Launch:
    """A kernel with its arguments, queued by the launch of cuda.core: numba-cuda's own takes ten times as long.

    Parameters
    ----------
    kernel : kernel
        Compiled and loaded when it first gets arguments of such types on a device.
    blocks, threads : int or tuple of int
        The shape of the grid, and of a block.
    shared : int
        Bytes of shared memory beside what the kernel names itself.
    arguments : tuple
        Integers, and numbers of NumPy.
    more : tuple of type
        Of the arguments that follow, other ones each time that it is queued.
    beside : bool
        Whether a graph may run it beside the launch that follows in its row: neither needs what the other writes.
    """

    kernel: Any
    blocks: Any
    threads: Any
    shared: int
    arguments: tuple
    more: tuple = ()
    beside: bool = False
    kinds: tuple = field(init=False, compare=False)
    ready: tuple = field(init=False, compare=False)  # the last device that it was queued on, and what cuda.core takes

    def __post_init__(self):
        self.kinds, self.ready = (*map(type, self.arguments), *self.more), (None, None, None)

    def loaded(self, device):
        """The kernel for arguments of these types on a device, the current one, as cuda.core launches it."""
        return _loaded(self.kernel, self.kinds, self.shared, device)

    def queue(self, stream, device, *more):
        """Queue it on a stream of cuda.core on a device, the current one; in the simulator both are None."""
        if SIMULATED:
            self.kernel[self.blocks, self.threads, 0, self.shared](*self.arguments, *more)
        else:
            known, config, code = self.ready
            if known != device:
                config, code = _launch_config(self.blocks, self.threads, self.shared), self.loaded(device)
                self.ready = device, config, code
            launch(stream, config, code, *self.arguments, *more)


def current_device():
    """Number of the device that this thread uses; a thread that has used none gets the first one."""
    error, device = driver.cuCtxGetDevice()  # numba-cuda's own way takes twenty times as long
    return cuda.current_context().device.id if error else int(device)


def copy_to_device(target, source, size):
    """Queue the copy of bytes from pinned memory of the host, by addresses, on the default stream."""
    if SIMULATED:
        ctypes.memmove(target, source, size)
    else:
        _must_succeed(driver.cuMemcpyHtoDAsync, target, source, size, 0)


def copy_from_device(target, source, size):
    """Queue the copy of bytes to pinned memory of the host, by addresses, on the default stream."""
    if SIMULATED:
        ctypes.memmove(target, source, size)
    else:
        _must_succeed(driver.cuMemcpyDtoHAsync, target, source, size, 0)


def clear_on_device(target, size):
    """Queue zeros for so many bytes at an address on the default stream."""
    _must_succeed(driver.cuMemsetD8Async, target, 0, size, 0)


def wait_for_default_stream():
    """Until all that was queued on the default stream is done."""
    if not SIMULATED:
        _must_succeed(driver.cuStreamSynchronize, 0)


def pinned(elements, dtype):
    """Memory of the host that is copied without waiting."""
    return np.empty(elements, dtype) if SIMULATED else cuda.pinned_array(elements, dtype)


def _must_succeed(function, *arguments):
    (error,) = function(*arguments)
    if error and error in _NO_CONTEXT:  # this thread has used no device yet
        current_device()
        (error,) = function(*arguments)
    if error:
        raise RuntimeError(f"the driver of the GPU says {error.name}")


def stream_of(stream):
    """The stream of cuda.core for one of Numba, CuPy, PyTorch or cuda.core, or for the address of one."""
    if type(stream) is not int:
        stream = getattr(stream, "cuda_stream", getattr(stream, "ptr", stream))
    return _stream_at(stream if type(stream) is int else int(stream.handle))


@functools.cache
def _loaded(kernel, kinds, shared, device):
    made = kernel.compile(tuple(kernel.typeof_pyval(kind(0)) for kind in kinds))
    made.bind()
    function = made.library.get_cufunc()
    if shared > SHARED_BYTES:
        from numba.cuda.cudadrv.driver import binding, driver

        attribute = binding.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        driver.cuKernelSetAttribute(attribute, shared, function.handle, device)
    return function.kernel


@functools.lru_cache(1024)
def _launch_config(blocks, threads, shared):
    # which takes no integers of NumPy
    blocks, threads = (tuple(map(int, n)) if type(n) is tuple else int(n) for n in (blocks, threads))
    return LaunchConfig(grid=blocks, block=threads, shmem_size=int(shared))


@functools.lru_cache(64)
def _stream_at(address):
    return Stream.from_handle(address)


def captured(launches):
    """A function that queues launches on the default stream, as one CUDA graph."""
    here = Device()
    here.set_current()
    builder = here.create_graph_builder().begin_building()
    row, other, apart = builder.stream, here.create_stream(), False
    for launch in launches:
        if launch.beside and not apart:
            other.wait(row)
        launch.queue(other if launch.beside else row, here.device_id)
        if apart and not launch.beside:
            row.wait(other)
        apart = launch.beside
    if apart:
        row.wait(other)
    graph = builder.end_building().complete()
    return lambda: graph.launch(here.default_stream)


def device(function):
    """Decorator of a function that kernels call; always inlined."""
    if not SIMULATED:
        return cuda.jit(**GPU_DEVICE)(function)
    # the simulator puts itself in place of `cuda` in the globals of what it wraps: most functions have no use for it
    return cuda.jit(device=True)(function) if "cuda" in function.__code__.co_names else function


def users_device(name, function, *reals):
    """A function of the user's own, by @njit or plain, as a device function of numbers of these dtypes.

    Parameters
    ----------
    name : str
        The argument that it came by.
    function : dispatcher or function
        It may call other functions by @njit.
    *reals : type
        numpy.float32 or float64, one for each of its arguments.

    Returns
    -------
    device function
        Compiled already, so that an error names the argument it came by.

    Raises
    ------
    ValueError
        If numba-cuda cannot compile it.
    """
    made = device(getattr(function, "py_func", function))
    if not SIMULATED:
        try:
            made.compile_device(tuple(getattr(cuda.types, real.__name__) for real in reals))
        except Exception as error:  # of many kinds, not all of them Numba's
            accepted = "functions that numba-cuda compiles on a GPU"
            raise ValueError(f"{name} must be {accepted}; got {function.__name__}: {error}") from error
    return made


def kernel(threads, min_blocks_per_sm=None):
    """Decorator of a kernel that is launched with blocks of at most `threads` threads.

    `min_blocks_per_sm`: as CUDA's launch bounds have it: the compiler limits the registers of a thread so that this
    many blocks fit a multiprocessor; 1 gives a thread all that it wants.
    """
    bounds = threads if min_blocks_per_sm is None else (threads, min_blocks_per_sm)

    def decorate(function):
        if not SIMULATED:
            return quick(kept(cuda.jit(launch_bounds=bounds, **GPU_KERNEL)(function)))
        inner = cuda.jit(device=True)(function)

        @functools.wraps(function)
        def silent(*args):
            with np.errstate(all="ignore"):  # as on the device, in each thread
                inner(*args)

        del silent.__wrapped__
        return cuda.jit(silent)

    return decorate


def for_each_real(define: Define) -> Define:
    """The kernel, function or namespace that `define(real)` gives, by dtype: made when it is first needed."""

    @functools.cache
    @functools.wraps(define)
    def made(real, *more):
        return define(np.dtype(real).type, *more)

    return made
