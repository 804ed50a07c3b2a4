"""Activations and their derivatives over whole arrays: loops around the formulas."""

from ..annotations import Floats
from ..formulas import (
    ELU,
    GELU,
    GELU_TANH,
    LEAKY_RELU,
    RELU,
    SIGMOID,
    SILU,
    SOFTMAX,
    SOFTPLUS,
    TANH,
)
from ..options import EXACT, jit
from .formulas import VECTOR
from .memory import address_of
from .simd import lanes, like, load_part, load_strided, select, store_part, store_strided
from .tile import tile_spill, tile_zeros
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


(
    _,
    _sigmoid,
    _tanh,
    _relu,
    _leaky_relu,
    _elu,
    _softplus,
    _silu,
    _gelu,
    _gelu_tanh,
) = (_forward_of(pair[0]) for pair in VECTOR.activations if pair)
(
    _,
    _sigmoid_back,
    _tanh_back,
    _,
    _leaky_relu_back,
    _elu_back,
    _softplus_back,
    _silu_back,
    _gelu_back,
    _gelu_tanh_back,
) = (_backward_of(pair[1]) for pair in VECTOR.activations if pair)

# every loop is compiled into the training loop: linear and the slope of relu are leaky relu's of slope 1 and 0


@jit(EXACT)
def activate(code, param, rows, columns, z, rs_z, a, rs_a):
    """A = g(Z), from pointers and row strides; consecutive columns, any activation but softmax."""
    if code == RELU:
        _relu(param, rows, columns, z, rs_z, a, rs_a)
    elif code == TANH:
        _tanh(param, rows, columns, z, rs_z, a, rs_a)
    elif code == SIGMOID:
        _sigmoid(param, rows, columns, z, rs_z, a, rs_a)
    elif code == LEAKY_RELU:
        _leaky_relu(param, rows, columns, z, rs_z, a, rs_a)
    elif code == ELU:
        _elu(param, rows, columns, z, rs_z, a, rs_a)
    elif code == SOFTPLUS:
        _softplus(param, rows, columns, z, rs_z, a, rs_a)
    elif code == SILU:
        _silu(param, rows, columns, z, rs_z, a, rs_a)
    elif code == GELU:
        _gelu(param, rows, columns, z, rs_z, a, rs_a)
    elif code == GELU_TANH:
        _gelu_tanh(param, rows, columns, z, rs_z, a, rs_a)
    else:  # LINEAR
        _leaky_relu(1.0, rows, columns, z, rs_z, a, rs_a)


@jit(EXACT)
def activate_slope(code, param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz):
    """dZ = dA * g'(Z), from pointers and row strides; consecutive columns, any activation but softmax."""
    if code == RELU:
        _leaky_relu_back(0.0, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == TANH:
        _tanh_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == SIGMOID:
        _sigmoid_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == LEAKY_RELU:
        _leaky_relu_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == ELU:
        _elu_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == SOFTPLUS:
        _softplus_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == SILU:
        _silu_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == GELU:
        _gelu_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    elif code == GELU_TANH:
        _gelu_tanh_back(param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
    else:  # LINEAR
        _leaky_relu_back(1.0, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)


@jit(EXACT)
def activate_any(code, param, rows, columns, z, rs_z, cs_z, a, rs_a, cs_a):
    """`activate` for any strides (row, column): scattered elements go through a register on the stack."""
    if cs_z == 1 and cs_a == 1:
        activate(code, param, rows, columns, z, rs_z, a, rs_a)
        return
    held = tile_spill(tile_zeros(z, 1, 1))
    for i in range(rows):
        for j in range(0, columns, lanes(z)):
            left = columns - j
            store_part(held, load_strided(z + (i * rs_z + j * cs_z), cs_z, left), lanes(z))
            activate(code, param, 1, lanes(z), held, 0, held, 0)
            store_strided(a + (i * rs_a + j * cs_a), cs_a, load_part(held, left), left)


@jit(EXACT)
def activate_slope_any(code, param, rows, columns, da, rs_da, cs_da, z, rs_z, cs_z, a, rs_a, cs_a, dz, rs_dz, cs_dz):
    """`activate_slope` for any strides (row, column); dZ may be dA."""
    if cs_da == 1 and cs_z == 1 and cs_a == 1 and cs_dz == 1:
        activate_slope(code, param, rows, columns, da, rs_da, z, rs_z, a, rs_a, dz, rs_dz)
        return
    width = lanes(z)
    held = tile_spill(tile_zeros(z, 3, 1))
    for i in range(rows):
        for j in range(0, columns, width):
            left = columns - j
            store_part(held, load_strided(da + (i * rs_da + j * cs_da), cs_da, left), width)
            store_part(held + width, load_strided(z + (i * rs_z + j * cs_z), cs_z, left), width)
            store_part(held + 2 * width, load_strided(a + (i * rs_a + j * cs_a), cs_a, left), width)
            activate_slope(code, param, 1, width, held, 0, held + width, 0, held + 2 * width, 0, held, 0)
            store_strided(dz + (i * rs_dz + j * cs_dz), cs_dz, load_part(held, left), left)


@jit(EXACT)
def softmax(outputs, samples, z, fs_z, ss_z, a, fs_a, ss_a):
    """A = softmax(Z) over the outputs, samples along the lanes; strides are (output, sample)."""
    width = lanes(z)
    for s in range(0, samples, width):
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
    for s in range(0, samples, width):
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


@jit(EXACT, public=True)
def activation_forward(code: int, param: float, Z: Floats, A: Floats) -> None:
    """A = g(Z).

    Parameters
    ----------
    code : int
        An activation code such as `kernels.RELU`; SOFTMAX works along the last axis.
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
