"""Activations and their derivatives over whole arrays: loops around the formulas.

Symbols: z, a: what goes in and what comes out, a = g(z); da, dz: the gradients with respect to them; rs_, cs_: elements
from row to row and from column to column; fs_, ss_: from feature to feature and from sample to sample.
"""

from ..annotations import Floats
from ..compiler import jit
from ..formulas import ACTIVATIONS, LINEAR, SOFTMAX
from ..options import EXACT
from .formulas import vector_formula
from .memory import address_of
from .own import activation_loops
from .simd import lanes, like, load_part, load_strided, select, store_part, store_strided
from .tile import tile_spill, tile_zeros
from .units import unit
from .vmath import exp


def _forward_of(formula):
    """A = g(Z) over rows of consecutive elements."""

    @jit(EXACT)
    def forward(param, rows, columns, z, rs_z, a, rs_a):
        for i in range(rows):
            p, q = z + i * rs_z, a + i * rs_a
            for j in range(0, columns, lanes(z)):
                store_part(q + j, formula(param, load_part(p + j, columns - j)), columns - j)

    return forward


def _backward_of(slope):
    """dZ = dA * g'(Z) over rows of consecutive elements."""

    @jit(EXACT)
    def backward(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz):
        for i in range(rows):
            incoming, p, q, out = da + i * rs_da, z + i * rs_z, a + i * rs_a, dz + i * rs_dz
            for j in range(0, columns, lanes(z)):
                left = columns - j
                by = slope(param, load_part(p + j, left), load_part(q + j, left))
                store_part(out + j, load_part(incoming + j, left) * by, left)

    return backward


def _alone(name, function):
    """A function with a name of its own: what is compiled of it is kept under it."""
    function.__name__ = function.__qualname__ = name
    return function


def _units_of(name, forward, backward):
    """The two loops as units, as `addresses_of` describes them."""

    def activate(alpha, outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a):
        rows, columns, rs_z, rs_a = outputs, samples, fs_z, fs_a
        if ss_z != 1:
            rows, columns, rs_z, rs_a = samples, outputs, ss_z, ss_a
        forward(alpha, rows, columns, z, rs_z, a, rs_a)

    def slope(alpha, outputs, samples, delta, z, a, ld):
        backward(alpha, outputs, samples, delta, ld, z, ld, a, ld, delta, ld)

    return _activate_unit(name, activate), _slope_unit(name, slope)


def _activate_unit(name, activate):
    return unit(EXACT, "fiiPiiPii")(_alone(f"activate_{name}", activate))


def _slope_unit(name, slope):
    return unit(EXACT, "fiiPPPi")(_alone(f"slope_{name}", slope))


@jit(EXACT)
def _unknown(code, param, rows, columns, z, rs_z, a, rs_a):
    for i in range(rows):
        for j in range(0, columns, lanes(z)):
            store_part(a + (i * rs_a + j), like(NAN, load_part(z + (i * rs_z + j), columns - j)), columns - j)


@jit(EXACT)
def _unknown_slope(code, param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz):
    _unknown(code, param, rows, columns, z, rs_z, dz, rs_dz)


def _or(known, forward, backward, others, others_slope):
    """The loops of the code `known`, else those of others."""

    @jit(EXACT)
    def activate(code, param, rows, columns, z, rs_z, a, rs_a):
        if code == known:
            forward(param, rows, columns, z, rs_z, a, rs_a)
        else:
            others(code, param, rows, columns, z, rs_z, a, rs_a)

    @jit(EXACT)
    def activate_slope(code, param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz):
        if code == known:
            backward(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
        else:
            others_slope(code, param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)

    return activate, activate_slope


NAN = float("nan")  # what a code gives that no activation has
_units = {}  # of each activation, by code
_activate, _activate_slope = _unknown, _unknown_slope
for _record in ACTIVATIONS:
    if _record.make is not None:
        _formula, _derivative = vector_formula(_record)
        _loops = _forward_of(_formula), _backward_of(_derivative)
        _units[_record.code] = _units_of(_record.name, *_loops)
        _activate, _activate_slope = _or(_record.code, *_loops, _activate, _activate_slope)


@jit(EXACT)
def activate_any(code, param, rows, columns, z, rs_z, cs_z, a, rs_a, cs_a):
    """A = g(Z) for any strides (row, column): scattered elements go through a register on the stack."""
    if cs_z == 1 and cs_a == 1:
        _activate(code, param, rows, columns, z, rs_z, a, rs_a)
        return
    held = tile_spill(tile_zeros(z, 1, 1))
    for i in range(rows):
        for j in range(0, columns, lanes(z)):
            left = columns - j
            store_part(held, load_strided(z + (i * rs_z + j * cs_z), cs_z, left), lanes(z))
            _activate(code, param, 1, lanes(z), held, 0, held, 0)
            store_strided(a + (i * rs_a + j * cs_a), cs_a, load_part(held, left), left)


@jit(EXACT)
def activate_slope_any(code, param, rows, columns, da, rs_da, cs_da, z, rs_z, cs_z, a, rs_a, cs_a, dz, rs_dz, cs_dz):
    """dZ = dA * g'(Z) for any strides (row, column); dZ may be dA."""
    if cs_da == 1 and cs_z == 1 and cs_a == 1 and cs_dz == 1:
        _activate_slope(code, param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
        return
    width = lanes(z)
    held = tile_spill(tile_zeros(z, 3, 1))
    for i in range(rows):
        for j in range(0, columns, width):
            left = columns - j
            store_part(held, load_strided(da + (i * rs_da + j * cs_da), cs_da, left), width)
            store_part(held + width, load_strided(z + (i * rs_z + j * cs_z), cs_z, left), width)
            store_part(held + 2 * width, load_strided(a + (i * rs_a + j * cs_a), cs_a, left), width)
            _activate_slope(code, param, 1, width, held, 0, held + width, 0, held + 2 * width, 0, held, 0)
            store_strided(dz + (i * rs_dz + j * cs_dz), cs_dz, load_part(held, left), left)


@jit(EXACT)
def softmax(outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a):
    """A = softmax(Z) over the outputs, samples along the lanes; strides are (output, sample)."""
    width = lanes(z)
    for s in range(0, samples if outputs > 0 else 0, width):
        left = samples - s
        p, q = z + s * ss_z, a + s * ss_a
        peak = load_strided(p, ss_z, left)
        for j in range(1, outputs):
            value = load_strided(p + j * fs_z, ss_z, left)
            peak = select(value > peak, value, peak)
        mass = like(0.0, peak)
        for j in range(outputs):
            value = exp(load_strided(p + j * fs_z, ss_z, left) - peak)
            mass = mass + value
            store_strided(q + j * fs_a, ss_a, value, left)
        scale = 1.0 / mass
        for j in range(outputs):
            store_strided(q + j * fs_a, ss_a, load_strided(q + j * fs_a, ss_a, left) * scale, left)


@jit(EXACT)
def softmax_slope(outputs, samples, da, fs_da, ss_da, a, fs_a, ss_a, dz, fs_dz, ss_dz):
    """dZ = A * (dA - sum(dA * A)) over the outputs of each sample; dZ may be dA."""
    width = lanes(a)
    for s in range(0, samples if outputs > 0 else 0, width):
        left = samples - s
        mean = like(0.0, load_strided(a + s * ss_a, ss_a, left))
        for j in range(outputs):
            mean = mean + load_strided(da + (j * fs_da + s * ss_da), ss_da, left) * load_strided(
                a + (j * fs_a + s * ss_a), ss_a, left
            )
        for j in range(outputs):
            incoming = load_strided(da + (j * fs_da + s * ss_da), ss_da, left)
            value = load_strided(a + (j * fs_a + s * ss_a), ss_a, left) * (incoming - mean)
            store_strided(dz + (j * fs_dz + s * ss_dz), ss_dz, value, left)


def _softmax(alpha, outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a):
    softmax(outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a)


def _softmax_slope(alpha, outputs, samples, delta, z, a, ld):
    softmax_slope(outputs, samples, delta, ld, 1, a, ld, 1, delta, ld, 1)


_units[SOFTMAX] = _activate_unit("softmax", _softmax), _slope_unit("softmax", _softmax_slope)


def addresses_of(activation, dtype, slope_too):
    """(address of A = g(Z), address of delta *= g'(Z), what must live as long); 0 where there is nothing to do.

    The first takes (alpha, outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a), strides by feature and by sample, one of
    them 1; the second (alpha, outputs, samples, delta, z, a, ld), samples consecutive and features ld apart.
    """
    if activation.functions is not None:
        loops = activation_loops(activation.functions, dtype)
        return *(loop.address for loop in loops), loops
    if activation.code == LINEAR:
        return 0, 0, None
    activate, slope = _units[activation.code]
    return activate.address(dtype), slope.address(dtype) if slope_too else 0, None


@jit(EXACT, public=True)
def activation_forward(code: int, param: float, Z: Floats, A: Floats) -> None:
    """A = g(Z).

    Parameters
    ----------
    code : int
        An activation code such as `kernels.RELU`; SOFTMAX works along the last axis. A code of none gives NaN.
    param : float
        alpha of leaky_relu and elu; others ignore it.
    Z : array (m, n), float32 or float64
        Inputs, any strides.
    A : array (m, n), dtype of Z
        Receives the outputs; may be Z.
    """
    rows, columns = Z.shape
    size = Z.itemsize
    rs_z, cs_z, rs_a, cs_a = Z.strides[0] // size, Z.strides[1] // size, A.strides[0] // size, A.strides[1] // size
    z, a = address_of(Z), address_of(A)
    if code == SOFTMAX:
        softmax(columns, rows, z, cs_z, rs_z, a, cs_a, rs_a)
    elif cs_z != 1 and rs_z == 1:
        activate_any(code, param, columns, rows, z, cs_z, rs_z, a, cs_a, rs_a)
    else:
        activate_any(code, param, rows, columns, z, rs_z, cs_z, a, rs_a, cs_a)


@jit(EXACT, public=True)
def activation_backward(code: int, param: float, dA: Floats, Z: Floats, A: Floats, dZ: Floats) -> None:
    """dZ = dA * g'(Z), for softmax its Jacobian times dA.

    Parameters
    ----------
    code : int
        An activation code.
    param : float
        alpha of leaky_relu and elu; others ignore it.
    dA : array (m, n), float32 or float64
        Gradient with respect to A.
    Z, A : array (m, n), dtype of dA
        Inputs and outputs of the forward pass. Z may be A itself, but for silu, gelu and gelu_tanh, whose derivative
        is not a function of the output.
    dZ : array (m, n), dtype of dA
        Receives the gradient with respect to Z; may be dA.
    """
    rows, columns = dA.shape
    s = dA.itemsize
    rs_da, cs_da, rs_z, cs_z = dA.strides[0] // s, dA.strides[1] // s, Z.strides[0] // s, Z.strides[1] // s
    rs_a, cs_a, rs_dz, cs_dz = A.strides[0] // s, A.strides[1] // s, dZ.strides[0] // s, dZ.strides[1] // s
    da, z, a, dz = address_of(dA), address_of(Z), address_of(A), address_of(dZ)
    if code == SOFTMAX:
        softmax_slope(columns, rows, da, cs_da, rs_da, a, cs_a, rs_a, dz, cs_dz, rs_dz)
    else:
        activate_slope_any(code, param, rows, columns, da, rs_da, cs_da, z, rs_z, cs_z, a, rs_a, cs_a, dz, rs_dz, cs_dz)
