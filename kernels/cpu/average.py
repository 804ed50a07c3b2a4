"""The average of the outputs of several nets, sum(w out) / sum(w): summed in float64, net by net, and rounded once.

Symbols: count: elements of the outputs; weight: w of a net; total: sum of all w.
"""

from ..annotations import Floats
from ..compiler import jit
from ..options import EXACT
from .memory import address_of, flush_denormals, restore_float_control


@jit(EXACT)
def add_weighted(count, weight, outputs, sums):
    """sums += weight * outputs."""
    for i in range(count):
        sums[i] = sums[i] + weight * outputs[i]


@jit(EXACT)
def round_average(count, total, sums, out):
    """out = sums / total."""
    for i in range(count):
        out[i] = sums[i] / total


@jit(EXACT, public=True)
def add_outputs(weight: float, outputs: Floats, sums: Floats) -> None:
    """Add the outputs of one net to the sums of all.

    Parameters
    ----------
    weight : float
        Of the net.
    outputs : array (m, n_out), float32 or float64
        Contiguous.
    sums : array (m, n_out), float64
        Contiguous; changed.
    """
    control = flush_denormals()  # as `apply_rows` does: with the same bits
    add_weighted(outputs.size, weight, address_of(outputs), address_of(sums))
    restore_float_control(control)


@jit(EXACT, public=True)
def average_of_sums(total: float, sums: Floats, out: Floats) -> None:
    """The average, from the sums of all nets.

    Parameters
    ----------
    total : float
        Sum of the weights.
    sums : array (m, n_out), float64
        Contiguous.
    out : array (m, n_out), float32 or float64
        Contiguous; receives the average.
    """
    control = flush_denormals()
    round_average(out.size, total, address_of(sums), address_of(out))
    restore_float_control(control)
