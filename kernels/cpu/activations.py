"""Activations and their derivatives over whole arrays: loops around the formulas."""

from ..formulas import SOFTMAX
from ..options import EXACT, jit
from .formulas import VECTOR
from .memory import address_of
from .simd import lanes, like, load_strided, select, store_strided
from .vmath import exp

_activate, _slope = VECTOR.activate, VECTOR.slope


@jit(EXACT)
def activate(code, param, rows, columns, z, rs_z, cs_z, a, rs_a, cs_a):
    """A = g(Z) element by element, from pointers and strides (row, column); fast where the columns are consecutive."""
    width = lanes(z)
    for i in range(rows):
        p, q = z + i * rs_z, a + i * rs_a
        for j in range(0, columns, width):
            value = load_strided(p + j * cs_z, cs_z, columns - j)
            store_strided(q + j * cs_a, cs_a, _activate(code, param, value), columns - j)


@jit(EXACT)
def activate_slope(code, param, rows, columns, da, rs_da, cs_da, z, rs_z, cs_z, a, rs_a, cs_a, dz, rs_dz, cs_dz):
    """dZ = dA * g'(Z) element by element; dZ may be dA."""
    width = lanes(z)
    for i in range(rows):
        for j in range(0, columns, width):
            left = columns - j
            z_here = load_strided(z + (i * rs_z + j * cs_z), cs_z, left)
            a_here = load_strided(a + (i * rs_a + j * cs_a), cs_a, left)
            incoming = load_strided(da + (i * rs_da + j * cs_da), cs_da, left)
            result = incoming * _slope(code, param, z_here, a_here)
            store_strided(dz + (i * rs_dz + j * cs_dz), cs_dz, result, left)


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
def activation_forward(code, param, Z, A):
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
        activate(code, param, columns, rows, z, cs_z, rs_z, a, cs_a, rs_a)
    else:
        activate(code, param, rows, columns, z, rs_z, cs_z, a, rs_a, cs_a)


@jit(EXACT, public=True)
def activation_backward(code, param, dA, Z, A, dZ):
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
        activate_slope(code, param, rows, columns, da, rs_da, cs_da, z, rs_z, cs_z, a, rs_a, cs_a, dz, rs_dz, cs_dz)
