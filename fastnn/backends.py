"""The one door from the model layer to the kernels."""

import functools
import os

import numpy as np

from .errors import misspelt, must_be
from .kernels import (
    annotations,
    cache,
    cpu,
    cuda,
    formulas,
    options,
    ownership,
    program,
    randomness,
    state,
    sweep,
    tables,
    threads,
)
from .kernels.cpu import amx, apply, average, gram, own, peak, rng, vmath
from .kernels.cpu.sweep import Sweep as CPUSweep
from .kernels.distribution import pip_install as pip_install
from .kernels.plan import rows_on_lines as rows_on_lines
from .validation import size

Floats = annotations.Floats
Integers = annotations.Integers
DeviceArray = annotations.DeviceArray
PRECISIONS = cuda.PRECISIONS
TRAIN, EVALUATE, GRADIENT, APPLY = tables.TRAIN, tables.EVALUATE, tables.GRADIENT, tables.APPLY
INPUT_GRADIENT, JACOBIAN, PREDICT = tables.INPUT_GRADIENT, tables.JACOBIAN, tables.PREDICT
Header, FEW_ROWS_MARK, APPLY_ROWS = tables.Header, tables.FEW_ROWS_MARK, apply.ROWS
SweepTask = sweep.Task
operations, Program, TrainingState = program, program.Program, state.TrainingState
ACTIVATIONS, LOSSES, RULES = (
    {record.name: record for record in records} for records in (formulas.ACTIVATIONS, formulas.LOSSES, formulas.RULES)
)
compile_all, COMPILED, cache_folder = cpu.compile_all, options.COMPILED, cache.cache_folder
read_own, write_own, uninterrupted = ownership.read_own, ownership.write_own, threads.uninterrupted
link, join, relink, has_own, dtype_of = cpu.link, cpu.join, cpu.relink, cpu.has_own, cpu.dtype_of
add_outputs, average_of_sums, failure_at = average.add_outputs, average.average_of_sums, own.failure_at
formula_operations = formulas.operations_of
ERF = vmath.DOUBLE.erf_near, vmath.DOUBLE.erf_far, vmath.ERF_JOIN, vmath.DOUBLE.erf_end  # of float64
# without the checks of a contract: the callers have checked
apply_rows, matmul = cpu.apply_rows.kernel, cpu.matmul.kernel
UNFIT = own.UNFIT
work_size, multiply_add = cpu.work_size, peak.multiply_add
weighted_gram, gram_work_size = gram.weighted_gram, gram.gram_work_size
limits, permutation = program.limits, rng.permutation

_threads = None


def activation(name):
    """The record of an activation, by name or (f, df)."""
    return formulas.own_activation(name) if isinstance(name, tuple) else ACTIVATIONS[name]


def loss(name):
    """The record of a loss, by name or (f, df)."""
    return formulas.own_loss(name) if isinstance(name, tuple) else LOSSES[name]


def by_row(record):
    """Whether an activation looks at a whole row, so that it has no curve and no derivative of one number."""
    return record.make is None and record.functions is None


def activation_curve(name, z):
    """An activation with its default alpha, and its derivative, at the points z (n,) float64."""
    record, Z = ACTIVATIONS[name], z[np.newaxis]
    A, slope = np.empty_like(Z), np.empty_like(Z)
    cpu.activation_forward(record.code, record.alpha or 0.0, Z, A)
    cpu.activation_backward(record.code, record.alpha or 0.0, np.ones_like(Z), Z, A, slope)
    return A[0], slope[0]


def check_device(device):
    """Refuse what is not built."""
    if not isinstance(device, str) or device not in ("cpu", "cuda", "auto"):
        raise must_be("device", "'cpu', 'cuda' or 'auto'", misspelt(device, ["cpu", "cuda", "auto"]))


def check_precision(precision, device, dtype):
    """Refuse what no device computes with, or not this one."""
    if not isinstance(precision, str) or precision not in PRECISIONS:
        raise must_be("precision", "'float32', 'tf32' or 'bf16'", precision)
    if precision != "float32" and dtype != np.float32:
        raise must_be("precision", f"'float32' for a net of {dtype}", precision)
    if device == "cpu" and precision not in cpu_precisions():
        why = "" if amx.works() else ", which has no unit for bfloat16 (AMX) that this process may use"
        accepted = " or ".join(map(repr, cpu_precisions()))
        raise must_be("precision", f"{accepted} with device='cpu'{why}", precision)


def cpu_precisions():
    """What this CPU can round the operands of products to."""
    return ("float32", "bf16") if amx.works() else ("float32",)


def check_gpu():
    """Raise ImportError or RuntimeError, which say what is missing, where kernels cannot run on a GPU."""
    cuda.check()


def gpu_works():
    """Whether kernels can run on a GPU here; not in a process forked from one that found out."""
    return _where_it_works() == os.getpid()


@functools.cache
def _where_it_works():
    try:
        check_gpu()
    except (ImportError, RuntimeError):
        return None
    return os.getpid()


def make_plan(device, precision, program, parameters, batch, command, threads, state=None):
    """A plan of the kernels of a device, in float32 where a CPU lacks the precision; `threads` is for a CPU."""
    if device == "cuda":
        return cuda.make_plan(program, parameters, batch, command, state, precision)
    precision = precision if precision in cpu_precisions() else "float32"
    return cpu.make_plan(program, parameters, batch, command, threads, state, precision)


def make_sweep(device, tasks, threads):
    """The training of many nets by their SweepTasks; `threads` is for a CPU."""
    return cuda.Sweep(tasks) if device == "cuda" else CPUSweep(tasks, threads)


_RANDOMNESS = randomness.make(lambda function: function)


@np.errstate(over="ignore")  # hashes wrap around
def dropout_key(seed, epoch):
    """What the masks of an epoch are drawn from, as it stands in the table of a run."""
    return _RANDOMNESS.stream_key(seed, randomness.DROPOUT, epoch).astype(np.int64)


def device_rows(array, dtype):
    """Samples in the memory of a GPU, as plans take them: in place where they can be read so."""
    return cuda.rows(array, dtype)


def uploaded(array):
    """Samples of the host, copied to the GPU, for any number of plans."""
    return cuda.uploaded(array)


def host_copy(array):
    """A copy on the host of an array of the GPU."""
    return cuda.host_copy(array)


def empty_result(X, columns):
    """Uninitialised memory for a result for the rows of X, in their dtype and of their kind."""
    return np.empty((len(X), columns), X.dtype) if type(X) is np.ndarray else cuda.empty_like(X, columns)


def set_num_threads(n: int | None) -> None:
    """Set how many threads runs use where they name none.

    Parameters
    ----------
    n : int or None
        Positive; None goes back to NUMBA_NUM_THREADS or the number of cores.
    """
    global _threads
    _threads = None if n is None else thread_count("n", n)


def get_num_threads() -> int:
    """Threads that runs use where they name none.

    Returns
    -------
    int
        The number.
    """
    return options.default_threads() if _threads is None else _threads


def thread_count(name, n):
    """A checked number of threads."""
    return get_num_threads() if n is None else size(name, n)


def cpu_facts():
    """What the kernels are compiled for, as (name, value) pairs."""
    _, cpu_name, _ = options.target()
    return [
        ("CPU target", cpu_name),
        ("vector width", f"{8 * options.vector_bytes()} bits"),
        ("fused multiply-add", "yes" if options.has_fma() else "no"),
        ("bfloat16 products", "yes" if amx.works() else "no"),
        ("register tile", f"{options.tile_rows()[0]} x {options.VECTORS}"),
        ("threads", f"{get_num_threads()} of {os.cpu_count()} cores"),
        ("kernel cache", cache.described_folder()),
    ]
