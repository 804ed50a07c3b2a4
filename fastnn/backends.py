"""The one door from the model layer to the kernels."""

import os

from .errors import must_be
from .kernels import cpu, formulas, options, plan
from .kernels.cpu import peak
from .validation import size

ACTIVATIONS, LOSSES = formulas.ACTIVATIONS, formulas.LOSSES
DEFAULT_ALPHA = formulas.DEFAULT_ALPHA
Layout, make_plan = plan.Layout, cpu.make_plan
execute, execute_interruptibly = cpu.execute, cpu.execute_interruptibly
predict_rows = cpu.predict_rows
matmul, work_size, multiply_add = cpu.matmul, cpu.work_size, peak.multiply_add
WRITE_OUTPUT, WITH_LOSS, WITH_GRADIENT = plan.WRITE_OUTPUT, plan.WITH_LOSS, plan.WITH_GRADIENT
WRITE_INPUT_GRADIENT = plan.WRITE_INPUT_GRADIENT
N_IN, N_OUT = plan.N_IN, plan.N_OUT
TRAIN, PASS, DIVERGED = plan.TRAIN, plan.PASS, plan.DIVERGED

_threads = None


def activation_code(name):
    """The kernels' code of an activation."""
    return ACTIVATIONS.index(name)


def loss_code(name):
    """The kernels' code of a loss."""
    return LOSSES.index(name)


def optimizer_code(name):
    """The kernels' code of an update rule."""
    return formulas.OPTIMIZERS.index(name)


def real(name):
    """Place of a number in the plan's float table."""
    return getattr(plan, name)


def check_device(device):
    """Refuse what is not built."""
    if device != "cpu":
        raise must_be("device", "'cpu'", device)


def set_num_threads(n):
    """Set how many threads runs use where they name none.

    Parameters
    ----------
    n : int or None
        Positive; None goes back to NUMBA_NUM_THREADS or the number of cores.
    """
    global _threads
    _threads = None if n is None else thread_count("n", n)


def get_num_threads():
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
    _, cpu_name, _ = options._target()
    return [
        ("CPU target", cpu_name),
        ("vector width", f"{8 * options.vector_bytes()} bits"),
        ("fused multiply-add", "yes" if options.has_fma() else "no"),
        ("register tile", f"{options.tile_rows()[0]} x {options.VECTORS}"),
        ("threads", f"{get_num_threads()} of {os.cpu_count()} cores"),
        ("kernel cache", str(options.cache_folder() or "none: no home folder")),
    ]
