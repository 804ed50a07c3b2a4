"""Nets and ensembles in the user's own compiled code: `net.freeze()` gives one as an argument, `apply` runs it."""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload, register_jitable
from numpy.typing import ArrayLike, NDArray

from . import backends, validation
from .backends import Floats, Integers
from .errors import described, must_be

_HEADER, _MARK, _MARKED = backends.Header.SIZE, backends.Header.FEW_ROWS, backends.FEW_ROWS_MARK
_INPUTS, _OUTPUTS = backends.Header.FEATURES, backends.Header.OUTPUTS
_OPERATIONS, _PARAMETERS, _MEMBERS = (
    getattr(backends.Header, name) for name in ("OPERATIONS", "PARAMETERS", "MEMBERS")
)
_REALS, _UNFIT = (types.float32, types.float64), backends.UNFIT
_TOGETHER = backends.APPLY_ROWS  # rows that are read before their outputs are written
_FLOAT64 = np.dtype(np.float64)
FEW_ROWS = 16  # up to which prediction without a plan is faster


class Frozen(NamedTuple):
    """A net, or an ensemble, as it stood when it was frozen: read-only arrays, fit to be passed to an @njit function.

    Parameters
    ----------
    table : array, int64
        What the net computes, and where the compiled functions stand in this process.
    alphas : array, float64
        Parameter of each activation; in an ensemble the weights of the nets before them.
    parameters : array (p,), float32 or float64
        All weights and biases, of one net after the other.
    """

    table: Integers
    alphas: NDArray[np.float64]
    parameters: Floats

    def __reduce__(self):
        _check_frozen(self)
        if backends.has_own(self.table):
            raise TypeError("a frozen net with activations of your own cannot be pickled: pickle the net")
        return _unpickled, tuple(self)

    def __deepcopy__(self, memo):
        return self  # nothing in it can be changed


def _unpickled(table, alphas, parameters):
    """A Frozen of another process, with the addresses of this one; memory of others is read, if it can be as it is."""
    table, alphas, parameters = (np.require(array, requirements="CAE") for array in (table, alphas, parameters))
    for array in (alphas, parameters):
        array.flags.writeable = False
    return Frozen(backends.relink(table, parameters.dtype), alphas, parameters)


def frozen(net):
    """A Frozen over the net's parameters, which are not copied."""
    kept = net.kept  # for another program there is another
    found = kept.get("frozen")
    if found is None:
        program = net.program.predicting
        table, view = backends.link(program, net.dtype).table, net.state.parameters.view()
        view.flags.writeable = False
        found = kept["frozen"] = Frozen(table, program.alphas, view)
    return found


def frozen_average(nets, weights):
    """A Frozen of the weighted average of nets, whose parameters are copied."""
    found = [frozen(net) for net in nets]
    alphas = np.concatenate([weights, *(one.alphas for one in found)])
    parameters = np.concatenate([one.parameters for one in found])
    for array in (alphas, parameters):
        array.flags.writeable = False
    return Frozen(backends.join([one.table for one in found]), alphas, parameters)


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
    """Outputs of a frozen net or ensemble, from Python or from the user's own @njit function.

    In compiled code it takes a fraction of a microsecond for a row of a small net. It uses one thread; for many rows
    at once, `predict` is faster.

    Parameters
    ----------
    net : Frozen
        From `net.freeze()` of a net or an Ensemble; in an @njit function, one of its arguments.
    x : array (n_features,) or (m, n_features)
        One sample or several, any strides. In compiled code, in the net's dtype.
    out : array (n_out,) or (m, n_out), optional
        Receives the outputs, in the net's dtype, any strides; it may share memory with x. Allocated where it is None.

    Returns
    -------
    array
        `out`.

    Raises
    ------
    TypeError, ValueError
        For an argument that is not accepted; in compiled code, TypingError for a wrong dtype or number of dimensions,
        and for an `out` that cannot be written to.
    RuntimeError
        In compiled code, where an activation of the user's own raises an exception; from Python, that exception.
    """
    _check_frozen(net)
    dtype, n_in, n_out = net.parameters.dtype, int(net.table[_INPUTS]), int(net.table[_OUTPUTS])
    single = _is_vector(x)
    given = validation.numbers_of("x", x)[np.newaxis] if single else x
    X = validation.matrix("x", given, dtype, n_in, finite=False)
    result = np.empty(n_out if single else (len(X), n_out), dtype) if out is None else out
    shape = (n_out,) if single else (len(X), n_out)
    if not isinstance(result, np.ndarray) or result.dtype != dtype or result.shape != shape:
        given = f"{result.dtype} {result.shape}" if isinstance(result, np.ndarray) else type(result).__name__
        raise must_be("out", f"None or an array of {dtype} of shape {shape}", described(given))
    if not result.flags.writeable:
        raise must_be("out", "an array that can be written to", described("a read-only one"))
    if out is not None and len(X) > _TOGETHER and np.may_share_memory(X, result):
        X = X.copy()  # rows are written before all are read
    run(net, X, result[np.newaxis] if single else result)
    return result


def _is_vector(x):
    if type(x) is np.ndarray:
        return x.ndim == 1
    try:
        return np.ndim(x) == 1
    except Exception:  # such as rows of different lengths, about which `validation` says more
        return False


def _check_frozen(net):
    """Refuse arrays with which compiled code would read what is not theirs: anybody can make a named tuple."""
    dtype = backends.dtype_of(net.table) if isinstance(net, Frozen) else None
    if dtype is None:
        raise must_be("net", "what net.freeze() gives", net, TypeError)
    table, alphas, parameters = net
    count = table[_OPERATIONS] + table[_MEMBERS]
    if not _is_flat(alphas, _FLOAT64, count):
        raise must_be("net.alphas", f"a contiguous array of float64 of shape ({count},)", alphas)
    if not _is_flat(parameters, dtype, table[_PARAMETERS]):
        raise must_be("net.parameters", f"a contiguous array of {dtype} of shape ({table[_PARAMETERS]},)", parameters)


def _is_flat(array, dtype, size):
    fits = type(array) is np.ndarray and array.dtype == dtype and array.ndim == 1 and len(array) == size
    return fits and array.flags.c_contiguous and array.flags.aligned


@register_jitable
def _outputs_of(net):
    if net.table.size < _HEADER or net.table[_MARK] != _MARKED + net.parameters.itemsize:
        raise ValueError("net must be what net.freeze() gives")
    return net.table[_OUTPUTS]


@register_jitable
def _in_whole_steps(array):
    """Whether the elements of a matrix stand at multiples of their size: a field of a packed record does not."""
    for i in range(2):
        if array.shape[i] > 1 and array.strides[i] % array.itemsize != 0:
            return False
    return array.ctypes.data % array.itemsize == 0


@register_jitable
def _span(array):
    """Addresses of the first byte of a matrix and behind its last."""
    low = array.ctypes.data
    high = low + array.itemsize
    for i in range(2):
        reach = array.strides[i] * (array.shape[i] - 1)
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high


@register_jitable
def _overlap(x, out):
    (low, high), (out_low, out_high) = _span(x), _span(out)
    return low < out_high and out_low < high


@register_jitable
def _copy(source, target):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            target[i, j] = source[i, j]


@register_jitable
def _refuse(failure):
    if failure == _UNFIT:
        raise ValueError("net must be what net.freeze() gives")
    raise RuntimeError("an activation of the user's own raised an exception")


def _runner_of(number, contiguous, may_overlap):
    """In compiled code: the kernel over matrices, with copies of those that it cannot read or write as they are."""
    kernel = backends.apply_rows

    def run_plain(net, x, out):
        return kernel(net.table, net.alphas, net.parameters, x, out)

    def run_apart(net, x, out):
        X = x
        if len(x) > _TOGETHER and _overlap(x, out):  # rows are written before all are read
            X = np.empty(x.shape, number)
            _copy(x, X)
        return kernel(net.table, net.alphas, net.parameters, X, out)

    def run_any(net, x, out):
        X, result = x[::1, ::1], out[::1, ::1]  # one type for all: one kernel is compiled
        if (len(x) > _TOGETHER and _overlap(x, out)) or not _in_whole_steps(x):
            X = np.empty(x.shape, number)[::1, ::1]
            _copy(x, X)
        if not _in_whole_steps(out):
            result = np.empty(out.shape, number)[::1, ::1]
        failure = kernel(net.table, net.alphas, net.parameters, X, result)
        if not _in_whole_steps(out):
            _copy(result, out)
        return failure

    return register_jitable(run_any if not contiguous else run_apart if may_overlap else run_plain)


def _check_types(net, x, out):
    dtype = net[2].dtype
    for name, kind, accepted in zip(net.fields, net, ((types.int64,), (types.float64,), _REALS), strict=True):
        plain = isinstance(kind, types.Array) and kind.ndim == 1 and kind.layout == "C" and kind.aligned
        if not plain or kind.dtype not in accepted:
            raise TypingError(f"net.{name} must be that of what net.freeze() gives; got {kind}")
    if not isinstance(x, types.Array) or x.ndim not in (1, 2) or x.dtype != dtype:
        raise TypingError(f"x must be an array of {dtype} with one or two dimensions; got {x}")
    if out is None:
        return
    if not isinstance(out, types.Array) or (out.ndim, out.dtype) != (x.ndim, dtype):
        raise TypingError(f"out must be None or an array of {dtype} with {x.ndim} dimensions; got {out}")
    if not out.mutable:
        raise TypingError("out must be an array that can be written to; got a read-only one")


@overload(apply)
def _compiled_apply(net, x, out=None):
    if not isinstance(net, types.NamedTuple) or net.instance_class is not Frozen:
        return None
    absent = out is None or isinstance(out, types.NoneType | types.Omitted)
    _check_types(net, x, None if absent else out)
    number = np.dtype(str(x.dtype)).type
    contiguous = all(array.layout == "C" and array.aligned for array in ((x,) if absent else (x, out)))
    run_kernel = _runner_of(number, contiguous, may_overlap=x.ndim == 2 and not absent)

    def one(net, x, out=None):
        outputs = _outputs_of(net)
        result = np.empty(outputs, number) if out is None else out
        if x.size != net.table[_INPUTS] or result.size != outputs:
            raise ValueError("x must have the net's number of inputs, and out its number of outputs")
        failure = run_kernel(net, np.expand_dims(x, 0), np.expand_dims(result, 0))
        if failure != 0:
            _refuse(failure)
        return result

    def many(net, x, out=None):
        outputs = _outputs_of(net)
        result = np.empty((len(x), outputs), number) if out is None else out
        if x.shape[1] != net.table[_INPUTS] or result.shape != (len(x), outputs):
            raise ValueError("x must be (m, the net's number of inputs), and out (m, its number of outputs)")
        failure = run_kernel(net, x, result)
        if failure != 0:
            _refuse(failure)
        return result

    return one if x.ndim == 1 else many
