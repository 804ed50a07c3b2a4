"""From Python to a kernel: addresses and strides of foreign arrays, the shape of the grid, the stream.

Arrays of CuPy, PyTorch and Numba say where they stand by `__cuda_array_interface__`; nothing is to_device.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..contract import ON_ITS_SIZE, Contract, DevicePlace
from ..contract import Operand as Rule
from .toolchain import (
    SIMULATED,
    Launch,
    NumbaArray,
    captured,
    check,
    clear_on_device,
    cuda,
    current_device,
    device,
    stream_of,
)

THREADS = 256  # of a block, where a kernel has no shape of its own (an estimate)
MOST_BLOCKS = 65_535  # along y and z, a limit of CUDA; along x 2^31 - 1
REMEMBERED = 4096  # operands, and calls, of which it is known what they come to
# Rounds of a recording in one graph, whose launch costs some microseconds, and rounds from which on it pays to make a
# graph of so many, which takes some milliseconds (estimates)
TOGETHER, MANY = 16, 512
ANY = object()  # dtype of an operand
Kernel = TypeVar("Kernel", bound=Callable[..., Any])
AMPERE = 8, 0  # compute capability with tensor cores for tf32 and bfloat16, and copies past the registers
HOPPER = 9, 0  # the only one with wgmma


@dataclass(frozen=True, eq=False)  # by identity: so what is kept by operands is found without reading them
class Operand:
    """An array as kernels take it: address of its first element, strides in elements."""

    address: int
    shape: tuple
    strides: tuple
    dtype: np.dtype
    place: DevicePlace | None = None


def operand(name, array, dimensions, dtype=None):
    """Where a device array stands.

    Parameters
    ----------
    name : str
        What the caller calls it.
    array : device array
        Of CuPy, PyTorch, Numba or anything else with `__cuda_array_interface__`.
    dimensions : int
        It must have.
    dtype : dtype, optional
        It must have; float32 or float64 where none is named, whatever it has for ANY.

    Returns
    -------
    Operand
        Its address, shape, strides in elements, and dtype.

    Raises
    ------
    TypeError, ValueError
        If it is not what it must be.
    """
    given = _found(name, array)
    accepted = (np.float32, np.float64) if dtype is None else (dtype,)
    if dtype is not ANY and given.dtype not in accepted:
        names = " or ".join(np.dtype(each).name for each in accepted)
        raise TypeError(f"{name} must have dtype {names}; got {given.dtype}")
    if len(given.shape) != dimensions:
        raise ValueError(f"{name} must have {dimensions} dimensions; got shape {given.shape}")
    if not given.place.on_its_size:
        raise ValueError(f"{name} must be {ON_ITS_SIZE}; got one between them")
    return given


@functools.lru_cache(REMEMBERED)
def _operand(address, shape, strides, kind, read_only):
    """The one Operand of these facts."""
    dtype = np.dtype(kind)
    place = DevicePlace(address, shape, strides, dtype.str if kind is dtype else kind, read_only)
    size = dtype.itemsize or 1
    return Operand(address, shape, tuple(step // size for step in place.strides), dtype, place)


def _found(name, array):
    """The Operand of a device array."""
    if type(array) is NumbaArray:  # its interface says the same, and takes five times as long
        return _operand(array.device_ctypes_pointer.value or 0, array.shape, array.strides, array.dtype, False)
    facts = getattr(array, "__cuda_array_interface__", None)
    if facts is None and SIMULATED:
        facts = getattr(array, "__array_interface__", None)
    if facts is None:
        raise TypeError(f"{name} must be a device array (CuPy, PyTorch or Numba); got {type(array).__name__}")
    (address, read_only), strides = facts["data"], facts.get("strides")
    place = int(address or 0), tuple(facts["shape"]), strides and tuple(strides)
    return _operand(*place, facts["typestr"], bool(read_only))


def checked(changing: bool = False, **more: Rule) -> Callable[[Kernel], Kernel]:
    """Decorator of a public kernel: it gets what its contract accepts, arrays as Operands.

    What it queues for some operands and numbers is kept, and queued again when they come again. Callers that have
    Operands use it as it is written, as the attribute `kernel` of what this gives.

    Parameters
    ----------
    changing : bool
        Some of its numbers, such as that of the step, are others in each call: only the checks are kept.
    **more : contract.Operand
        Operands that its twin on the CPU does without.
    """

    def taken(name, rule, array):
        left_out = array is None and rule.otherwise and rule.where is None
        return None if left_out else _found(name, array)

    def decorate(function):
        contract = Contract(function, **more)
        arrays, at = [i for i, *_ in contract.arrays], [name for name, _ in contract.rules].index("stream")

        def check_values(values):
            contract.check(values, lambda operand: operand.place)

        @functools.lru_cache(REMEMBERED)
        def check_operands(*operands):
            values = dict.fromkeys(range(len(contract.rules)))
            check_values([*(values | dict(zip(arrays, operands, strict=True))).values()])

        @functools.lru_cache(REMEMBERED)
        def recorded(*values):
            check_values(values)
            launches = []
            function(*values[:at], launches, *values[at + 1 :])
            return launches

        @functools.wraps(function)
        def kernel(*arguments, **keywords):
            values = contract.values(arguments, keywords, taken)
            if changing:
                check_operands(*[values[i] for i in arrays])
                function(*values)
                return
            stream, values[at] = values[at], None
            queue(recorded(*values), stream)

        kernel.kernel = function
        return kernel

    return decorate


def line(elements):
    """(blocks, threads) with a thread for each element."""
    return max(1, -(-elements // THREADS)), THREADS


def plane(rows, columns):
    """(blocks, threads) with a thread for each element of a matrix: blocks go down along x, threads across along x."""
    return _plane(rows, columns, THREADS)


@functools.lru_cache(REMEMBERED)
def _plane(rows, columns, most):
    width = 1
    while width < min(columns, most):
        width *= 2
    height = most // width
    return (max(1, -(-rows // height)), max(1, -(-columns // width))), (width, height)


@device
def place():
    """(row, column) of a thread of a `plane`."""
    block, thread = cuda.blockIdx, cuda.threadIdx
    return block.x * cuda.blockDim.y + thread.y, block.y * cuda.blockDim.x + thread.x


def run(kernel, shape, stream, *arguments, shared=0, precision="float32", more=()):
    """Queue a kernel.

    Parameters
    ----------
    kernel : kernel
        From `toolchain.kernel`.
    shape : tuple
        Blocks and threads of a block, as `line` and `plane` give them.
    stream : stream or list
        0 for the default one; Numba's, CuPy's, PyTorch's, or the address of a CUDA stream. A list receives the launch,
        for `Recording`.
    *arguments
        Integers, and numbers in the kernel's dtype.
    shared : int
        Bytes of shared memory beside what the kernel names itself.
    precision : str
        "tf32" and "bf16" need tensor cores that know them.
    more : tuple of type
        Of the arguments that `queue` adds to the launch in a list.

    Raises
    ------
    RuntimeError
        If there is no GPU, or an older one than the precision needs.
    """
    blocks = shape[0] if type(shape[0]) is tuple else (shape[0],)
    if 0 in blocks:
        return
    if len(blocks) > 1 and max(blocks[1:]) > MOST_BLOCKS:
        raise ValueError(f"arrays must have fewer columns: a GPU has {MOST_BLOCKS:,} blocks; got {max(blocks[1:]):,}")
    if precision != "float32" and not SIMULATED:
        check()
        check_precision(precision, cuda.get_current_device())
    launch = Launch(kernel, *shape, shared, arguments, more)
    if isinstance(stream, list):
        stream.append(launch)
    else:
        queue([launch], stream)


def queue(launches, stream, *more):
    """Queue launches, in order, on a stream as `run` takes it; `more` arguments follow those that each one has."""
    check()
    place = (None, None) if SIMULATED else (stream_of(stream), current_device())
    for launch in launches:
        launch.queue(*place, *more)


def load(launches):
    """Compile the kernels of launches, and load them on the device; nothing is queued."""
    if not SIMULATED:
        for launch in launches:
            launch.loaded(current_device())


def check_precision(precision, gpu):
    """Raise RuntimeError where a GPU has no tensor cores for a precision."""
    if tuple(gpu.compute_capability) < AMPERE:
        name = gpu.name.decode() if isinstance(gpu.name, bytes) else gpu.name
        needed, given = (".".join(map(str, each)) for each in (AMPERE, gpu.compute_capability))
        raise RuntimeError(f"precision {precision!r} needs compute capability {needed} or more; {name} has {given}")


def copies_past_registers():
    """Whether the GPU at hand copies into shared memory past the registers; where there is none, as if it did."""
    if SIMULATED or not cuda.is_available():
        return True
    return tuple(cuda.current_context().device.compute_capability) >= AMPERE


def has_wgmma():
    """Whether the GPU at hand is a Hopper."""
    return not SIMULATED and cuda.is_available() and tuple(cuda.get_current_device().compute_capability) == HOPPER


def processors():
    """Multiprocessors of the GPU at hand; where there is none, those of an H100."""
    if SIMULATED or not cuda.is_available():
        return 132
    return cuda.current_context().device.MULTIPROCESSOR_COUNT


class Recording:
    """A row of launches that is queued again and again on the default stream, as CUDA graphs from its second time on.

    At first a graph is one round, and many rounds when many have been asked for.

    Parameters
    ----------
    launches : list
        What `run` put there.
    """

    def __init__(self, launches):
        self.launches, self.graphs, self.queued = launches, {}, 0

    def eagerly(self, times):
        """Queue all launches, in order, so many times, one by one."""
        for _ in range(times):
            queue(self.launches, 0)

    def queue(self, times):
        """Queue all launches, in order, so many times: all but the first as graphs."""
        first = times if SIMULATED else min(times, max(1 - self.queued, 0))  # a graph takes only what is on the device
        self.eagerly(first)
        self.queued, times = self.queued + times, times - first
        for together in (TOGETHER, 1) if self.queued >= MANY else (1,):
            while times >= together:
                if together not in self.graphs:
                    self.graphs[together] = captured(together * self.launches)
                self.graphs[together]()
                times -= together


def to_device(array, what="the run"):
    """A copy of a host array on the device."""
    if SIMULATED:
        return array.copy()
    return _allocated(lambda: cuda.to_device(array), array.nbytes, what)


def empty(elements, dtype, what="the run"):
    """Uninitialised memory of the device."""
    if SIMULATED:
        return np.full(elements, np.nan if np.dtype(dtype).kind == "f" else 99, dtype)
    size = elements * np.dtype(dtype).itemsize
    return _allocated(lambda: cuda.device_array(int(elements), dtype), size, what)  # it takes no integer of NumPy


def clear(memory):
    """Queue zeros for memory of the device on the default stream."""
    if SIMULATED:
        memory.fill(0)
    else:
        clear_on_device(memory.device_ctypes_pointer.value, memory.nbytes)


def copy_into(memory, array):
    """Copy an array of the host or of the device into memory of the device."""
    if SIMULATED:
        memory[...] = array.reshape(memory.shape)
    else:
        memory.copy_to_device(np.ascontiguousarray(array) if isinstance(array, np.ndarray) else array)


def to_host(array):
    """A host copy of an array of the device; waits for what was queued before."""
    return array.copy() if SIMULATED else array.copy_to_host()


def _allocated(make, size, what):
    try:
        return make()
    except Exception as error:
        if "OUT_OF_MEMORY" not in str(error):
            raise
        raise MemoryError(f"no memory on the GPU for {size:,} bytes of {what}") from None
