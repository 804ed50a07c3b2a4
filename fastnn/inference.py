"""Nets inside the user's own compiled code: `net.freeze()` gives one as an argument, `apply` runs it."""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload
from numpy.typing import ArrayLike, NDArray

from . import backends, standardization, validation
from .backends import Floats, Integers
from .errors import described, must_be

_INPUTS, _OUTPUTS = backends.FEATURES, backends.OUTPUTS
FEW_ROWS = 16  # up to which prediction without a plan is faster


class Frozen(NamedTuple):
    """A net as it stood when it was frozen: arrays that cannot be written to, fit to be passed to an @njit function.

    Parameters
    ----------
    table : array, int64
        What the net computes, and where the compiled functions stand in this process.
    alphas : array, float64
        Parameter of each activation.
    parameters : array (p,), float32 or float64
        All weights and biases.
    """

    table: Integers
    alphas: NDArray[np.float64]
    parameters: Floats

    def __reduce__(self):
        if backends.has_own(self.table):
            raise TypeError("a frozen net with activations of your own cannot be pickled: pickle the net")
        return _unpickled, tuple(self)

    def __deepcopy__(self, memo):
        return self  # nothing in it can be changed


def _unpickled(table, alphas, parameters):
    """A Frozen of another process, with the addresses of this one."""
    for array in (alphas, parameters):
        array.flags.writeable = False
    return Frozen(backends.relink(table, parameters.dtype), alphas, parameters)


def folded_parameters(net):
    """The parameters that prediction works with: the standardisation is folded into the first and last layer."""
    parameters, learned = net.state.parameters, net.standardization
    if learned is None:
        return parameters
    return standardization.folded(learned, parameters, net.program.views)


def frozen(net):
    """A Frozen over the net's parameters, which are not copied where nothing is folded into them."""
    kept = net.kept  # for another program there is another
    found = kept.get("frozen")
    if found is None:
        program = net.program.predicting
        table, view = backends.link(program, net.dtype).table, net.state.parameters.view()
        view.flags.writeable = False
        found = kept["frozen"] = Frozen(table, program.alphas, view)
    if net.standardization is None:
        return found
    folded = folded_parameters(net)
    folded.flags.writeable = False  # or Numba would compile for another type
    return found._replace(parameters=folded)


def run(net, X, out):
    """Outputs of a frozen net for checked rows, with one compilation for every net."""
    if not X.flags.carray:
        X = np.array(X, order="C")
    target = out if out.flags.carray else np.empty(out.shape, out.dtype)
    failure = backends.apply_rows(*net, X, target)
    if failure:
        raise backends.failure_at(failure)
    if target is not out:
        out[...] = target


def apply(net: Frozen, x: ArrayLike, out: Floats | None = None) -> Floats:
    """Outputs of a frozen net, from Python or from the user's own @njit function.

    In compiled code it takes a fraction of a microsecond for a row of a small net. It uses one thread; for many rows
    at once, `predict` is faster.

    Parameters
    ----------
    net : Frozen
        From `net.freeze()`; in an @njit function, one of its arguments.
    x : array (n_features,) or (m, n_features)
        One sample or several. In compiled code, in the net's dtype.
    out : array (n_out,) or (m, n_out), optional
        Receives the outputs, in the net's dtype; allocated where it is None.

    Returns
    -------
    array
        `out`.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted; in compiled code, TypingError for a wrong dtype or number of dimensions.
    RuntimeError
        In compiled code, where an activation of the user's own raises an exception; from Python, that exception.
    """
    if not isinstance(net, Frozen):
        raise must_be("net", "what net.freeze() gives", net, TypeError)
    dtype, n_in, n_out = net.parameters.dtype, int(net.table[_INPUTS]), int(net.table[_OUTPUTS])
    single = np.ndim(x) == 1
    X = validation.matrix("x", np.asarray(x)[np.newaxis] if single else x, dtype, n_in, finite=False)
    result = np.empty(n_out if single else (len(X), n_out), dtype) if out is None else out
    shape = (n_out,) if single else (len(X), n_out)
    if not isinstance(result, np.ndarray) or result.dtype != dtype or result.shape != shape:
        given = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
        raise must_be("out", f"None or an array of {dtype} of shape {shape}", described(given))
    if not result.flags.writeable:
        raise must_be("out", "an array that can be written to", described("a read-only one"))
    run(net, X, result[np.newaxis] if single else result)
    return result


@overload(apply)
def _compiled_apply(net, x, out=None):
    if not isinstance(net, types.NamedTuple) or net.instance_class is not Frozen:
        return None
    dtype = net[2].dtype
    if not isinstance(x, types.Array) or x.ndim not in (1, 2) or x.dtype != dtype:
        raise TypingError(f"x must be an array of {dtype} with one or two dimensions; got {x}")
    absent = out is None or isinstance(out, types.NoneType | types.Omitted)
    if not absent and (not isinstance(out, types.Array) or (out.ndim, out.dtype) != (x.ndim, dtype)):
        raise TypingError(f"out must be None or an array of {dtype} with {x.ndim} dimensions; got {out}")
    kernel, number = backends.apply_rows, np.dtype(str(dtype)).type

    def one(net, x, out=None):
        outputs = net.table[_OUTPUTS]
        result = np.empty(outputs, number) if out is None else out
        if x.size != net.table[_INPUTS] or result.size != outputs:
            raise ValueError("x must have the net's number of inputs, and out its number of outputs")
        if kernel(net.table, net.alphas, net.parameters, np.expand_dims(x, 0), np.expand_dims(result, 0)) != 0:
            raise RuntimeError("an activation of the user's own raised an exception")
        return result

    def many(net, x, out=None):
        outputs = net.table[_OUTPUTS]
        result = np.empty((len(x), outputs), number) if out is None else out
        if x.shape[1] != net.table[_INPUTS] or result.shape != (len(x), outputs):
            raise ValueError("x must be (m, the net's number of inputs), and out (m, its number of outputs)")
        if kernel(net.table, net.alphas, net.parameters, x, result) != 0:
            raise RuntimeError("an activation of the user's own raised an exception")
        return result

    return one if x.ndim == 1 else many
