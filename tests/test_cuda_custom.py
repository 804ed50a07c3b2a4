"""Activations and losses of one's own as the compiler leaves them in CUDA kernels, without a GPU."""

import math

import cuda_offline
import cuda_table
import numpy as np
import pytest
from numba import njit
from test_cuda_cache import folder, made  # noqa: F401

from fastnn.kernels import formulas, tables

missing = cuda_offline.tools()
SLOW = pytest.mark.slow
pytestmark = pytest.mark.skipif(missing is not None, reason=str(missing))
ONE = np.float32(1.0)  # a literal would be double precision


@njit
def logistic(z):
    return ONE / (ONE + math.exp(-z))


@njit
def gate(z):
    return z * logistic(z)


@njit
def gate_slope(z):
    s = logistic(z)
    return s * (ONE + z * (ONE - s))


@njit
def softsign(z):
    return z / (ONE + abs(z))


@njit
def softsign_slope(z):
    return ONE / ((ONE + abs(z)) * (ONE + abs(z)))


@njit
def squared(prediction, target):
    return (prediction - target) * (prediction - target)


@njit
def squared_slope(prediction, target):
    return 2 * (prediction - target)


UNTYPED = object()


@njit
def with_an_object(z):
    return z * UNTYPED


GATE, SOFTSIGN, SQUARED = (gate, gate_slope), (softsign, softsign_slope), (squared, squared_slope)
NET = cuda_table.program(
    *(64, 64, 64, 8),
    activations=[formulas.own_activation(pair) for pair in (GATE, SOFTSIGN, GATE)],
    loss=formulas.own_loss(SQUARED),
)


def graph(dtype):
    """The launches of a large step of a net with functions of its own: (kernel, types, threads, shared)."""
    return cuda_offline.launched(lambda: cuda_table.queue_training(NET, dtype, formulas.RULES[formulas.SGD]))


def check(found, dtype, registers):
    for kernel, types, threads, _ in found:
        compiled, what = cuda_offline.compiled(kernel, types, threads, (9, 0)), kernel.py_func.__name__
        assert compiled.registers <= registers, what
        instructions = compiled.instructions
        assert compiled.stack == compiled.spilled == cuda_offline.count(instructions, *cuda_table.STACK) == 0, what
        assert dtype == "float64" or cuda_offline.count(instructions, *cuda_table.DOUBLE) == 0, what


@pytest.mark.parametrize(
    "loop", ["block", "of the graph", *(pytest.param(loop, marks=SLOW) for loop in ("grid", "graph"))]
)
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=SLOW)])
def test_kernels_with_functions_of_the_user_are_like_all_others(loop, dtype):
    """No spill, and no double precision but theirs; quickly in one kernel of the graph of each kind."""
    with cuda_offline.pretended((9, 0)):
        if loop.endswith("graph"):
            found, registers = graph(dtype), 168
            kinds = {kernel.py_func.__name__: (kernel, *more) for kernel, *more in found}
            assert {"product", "rows", "columns", "losses"} <= set(kinds)
            found = found if loop == "graph" else list(kinds.values())
        else:
            name = {"block": "loop of one block", "grid": "loop of a grid"}[loop]
            _, *ceilings = cuda_table.KERNELS[name]
            registers = ceilings[dtype == "float64"][0] + 8
            found = cuda_table.loop(loop, tables.TRAIN, NET)(dtype)
        check(found, dtype, min(registers, 255))


def test_one_pair_is_compiled_once():
    with cuda_offline.pretended((9, 0)):
        from fastnn.kernels.cuda.own import activation_of

        assert activation_of("float32", GATE) is activation_of("float32", (gate, gate_slope))
        assert activation_of("float32", GATE) is not activation_of("float32", SOFTSIGN)


def test_what_cannot_be_compiled_is_told_with_its_name_and_the_reason():
    with cuda_offline.pretended((9, 0)):
        from fastnn.kernels.cuda.own import activation_of, loss_of

        accepted = "must be functions that numba-cuda compiles on a GPU; got with_an_object: "
        with pytest.raises(ValueError, match=f"^activation {accepted}(?s:.*)UNTYPED"):
            activation_of("float32", (with_an_object, gate_slope))
        with pytest.raises(ValueError, match=f"^loss {accepted}"):
            loss_of("float64", (squared, with_an_object))


def test_kernels_with_functions_of_the_user_are_kept_in_no_file(folder):  # noqa: F811
    from fastnn.kernels.cuda.activations import forward_of

    with cuda_offline.pretended((9, 0)):
        kernel = forward_of("float32", GATE)
    assert made(lambda: kernel, 9).compiled
    assert not folder.exists()
    assert made(lambda: forward_of("float32", 0), 9).compiled
    assert folder.exists()


@njit
def with_a_check(z):
    assert z == z
    return z


@njit
def clipped(z):
    return with_a_check(z) if z > 0 else z


@njit
def divided(z):
    return ONE / (z - z) + math.log(-abs(z))


def test_what_raises_is_refused_with_its_name():
    """On a GPU an exception ends one thread's work, of which nobody hears."""
    with cuda_offline.pretended((9, 0)):
        from fastnn.kernels.cuda.own import activation_of, loss_of

        accepted = "must be functions that raise nothing on a GPU; got"
        with pytest.raises(ValueError, match=f"^activation {accepted} clipped: with_a_check has a raise or an assert"):
            activation_of("float32", (clipped, gate_slope))
        with pytest.raises(ValueError, match=f"^loss {accepted} with_a_check: with_a_check has"):
            loss_of("float64", (squared, with_a_check))
        assert activation_of("float32", (divided, gate_slope))  # infinity and NaN, and no exception
