"""The one door from the model layer to the kernels."""

import functools
import os

import numpy as np

from .errors import must_be
from .kernels import annotations, cpu, cuda, formulas, options, plan
from .kernels.cpu import peak
from .validation import size

Floats = annotations.Floats
Integers = annotations.Integers
DeviceArray = annotations.DeviceArray
ACTIVATIONS, LOSSES = formulas.ACTIVATIONS, formulas.LOSSES
DEFAULT_ALPHA = formulas.DEFAULT_ALPHA
COMPILED, cache_folder = options.COMPILED, options.cache_folder
predict_rows = cpu.predict_rows
matmul, work_size, multiply_add = cpu.matmul, cpu.work_size, peak.multiply_add
WRITE_OUTPUT, WITH_LOSS, WITH_GRADIENT = plan.WRITE_OUTPUT, plan.WITH_LOSS, plan.WITH_GRADIENT
WRITE_INPUT_GRADIENT = plan.WRITE_INPUT_GRADIENT
N_IN, N_OUT, FUNCTION = plan.N_IN, plan.N_OUT, plan.FUNCTION
TRAIN, PASS, DIVERGED = plan.TRAIN, plan.PASS, plan.DIVERGED

_threads = None


def activation_code(activation):
    """The kernels' code of an activation, by name or (f, df)."""
    return formulas.CUSTOM if isinstance(activation, tuple) else ACTIVATIONS.index(activation)


def make_layout(n_features, layers, rates, dtype):
    """Where the parameters of Dense layers stand, and all that a plan needs to know of them.

    `rates` are the shares of each layer's inputs that are dropped in training.
    """
    return plan.Layout(
        n_features,
        [layer.units for layer in layers],
        [activation_code(layer.activation) for layer in layers],
        [layer.alpha or 0.0 for layer in layers],
        rates,
        [layer.activation if isinstance(layer.activation, tuple) else None for layer in layers],
        lambda *pair: cpu.activation_addresses(*pair, dtype),
    )


def set_loss(plan, loss, param, logits):
    """Tell a plan its loss, by name or (f, df); `logits`: whether it takes them from the last layer."""
    if isinstance(loss, tuple):
        plan.set(LOSS=formulas.CUSTOM, LOGITS=False)
        if device_of(plan) == "cpu":
            plan.set(LOSS_FUNCTION=cpu.loss_address(*loss, plan.dtype))
        else:
            plan.own_loss = loss
        return
    plan.set(LOSS=LOSSES.index(loss), LOGITS=logits)
    plan.reals[real("LOSS_PARAM")] = param


def activation_curve(name, z):
    """An activation with its default alpha, and its derivative, at the points z (n,) float64."""
    code, alpha = activation_code(name), DEFAULT_ALPHA.get(name, 0.0)
    Z = z[np.newaxis]
    A, slope = np.empty_like(Z), np.empty_like(Z)
    cpu.activation_forward(code, alpha, Z, A)
    cpu.activation_backward(code, alpha, np.ones_like(Z), Z, A, slope)
    return A[0], slope[0]


def optimizer_code(name):
    """The kernels' code of an update rule."""
    return formulas.OPTIMIZERS.index(name)


def real(name):
    """Place of a number in the plan's float table."""
    return getattr(plan, name)


def check_device(device):
    """Refuse what is not built."""
    if device not in ("cpu", "cuda", "auto"):
        raise must_be("device", "'cpu', 'cuda' or 'auto'", device)


def check_precision(precision, device, dtype):
    """Refuse what no device computes with."""
    if precision not in cuda.PRECISIONS:
        raise must_be("precision", "'float32', 'tf32' or 'bf16'", precision)
    if precision != "float32" and (device == "cpu" or dtype != np.float32):
        raise must_be("precision", f"'float32' for a net of {dtype} with device={device!r}", precision)


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


def make_plan(device, precision, *arguments):
    """A plan of the kernels of a device, by the arguments of their `make_plan`; `precision` is for a GPU."""
    return cuda.make_plan(*arguments, precision) if device == "cuda" else cpu.make_plan(*arguments)


def rows(array, dtype):
    """Samples in the memory of a GPU, as plans take them: in place where they can be read so."""
    return cuda.rows(array, dtype)


def host_copy(array):
    """A copy on the host of an array of the GPU."""
    return cuda.host_copy(array)


def room_for(X, columns):
    """Uninitialised memory for a result for the rows of X, in their dtype and of their kind."""
    return np.empty((len(X), columns), X.dtype) if type(X) is np.ndarray else cuda.room_like(X, columns)


def divide_columns(array, divisors):
    """Divide each column of a result, in place."""
    if isinstance(array, np.ndarray):
        array /= divisors
    else:
        cuda.divide(array, divisors)


def _home(made):
    return cpu if type(made) is plan.Plan else cuda


def device_of(made):
    """The device of a plan, "cpu" or "cuda"."""
    return "cpu" if _home(made) is cpu else "cuda"


def execute(made):
    """Carry out a plan on the device that it was made for."""
    _home(made).execute(made)


def execute_interruptibly(made):
    """`execute` for a plan of long steps: Ctrl-C need not wait for the end of one."""
    _home(made).execute_interruptibly(made)


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
    _, cpu_name, _ = options._target()
    return [
        ("CPU target", cpu_name),
        ("vector width", f"{8 * options.vector_bytes()} bits"),
        ("fused multiply-add", "yes" if options.has_fma() else "no"),
        ("register tile", f"{options.tile_rows()[0]} x {options.VECTORS}"),
        ("threads", f"{get_num_threads()} of {os.cpu_count()} cores"),
        ("kernel cache", str(options.cache_folder() or "none: no home folder")),
    ]
