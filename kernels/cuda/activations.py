"""Activations and their derivatives over whole arrays: loops around the formulas, a kernel for each activation.

Z, A, dA and dZ are (m, n), any strides; rs and cs are the steps from row to row and from column to column in elements.
"""

from ..annotations import DeviceArray, Stream
from ..formulas import SOFTMAX
from .launch import checked, place, plane, run
from .own import activation_of, codes_of
from .primitives import exp, global_at, larger, opaque, warp_max, warp_sum
from .toolchain import cuda, device, for_each_real, kernel

WARPS = 4  # of a block whose warps take a row each (an estimate)


@for_each_real
def activations_of(real, keys):
    """(g(code, alpha, z), g'(code, alpha, z, a)) of those activations that a program uses; any other code gives NaN.

    `keys` are codes or pairs of the user's own; the codes of the pairs are those of `codes_of`. Softmax, which looks
    at a whole row, is left to the operation.
    """
    nan = real("nan")

    @device
    def activate(code, alpha, z):
        return nan

    @device
    def slope(code, alpha, z, a):
        return nan

    for key, code in codes_of(keys).items():
        if code != SOFTMAX:
            activate, slope = _one_more(code, activation_of(real, key), (activate, slope))
    return activate, slope


def _one_more(this, functions, others):
    """The functions of one activation where the code is `this`, else the others."""
    (activate_this, slope_this), (activate_other, slope_other) = functions, others

    # opaque: the compiler would copy the loop around it for each code
    @device
    def activate(code, alpha, z):
        return activate_this(alpha, z) if opaque(code) == this else activate_other(code, alpha, z)

    @device
    def slope(code, alpha, z, a):
        return slope_this(alpha, z, a) if opaque(code) == this else slope_other(code, alpha, z, a)

    return activate, slope


@for_each_real
def forward_of(real, code):
    """A = g(Z) for one activation, any strides."""
    formula = activation_of(real, code)[0]

    @kernel(256)
    def forward(param, rows, columns, z, rs_z, cs_z, a, rs_a, cs_a):
        p, q = global_at(z, real), global_at(a, real)
        i, j = place()
        if i < rows and j < columns:
            q[i * rs_a + j * cs_a] = formula(param, p[i * rs_z + j * cs_z])

    return forward


@for_each_real
def backward_of(real, code):
    """dZ = dA * g'(Z) for one activation, any strides."""
    slope = activation_of(real, code)[1]

    @kernel(256)
    def backward(param, rows, columns, da, rs_da, cs_da, z, rs_z, cs_z, a, rs_a, cs_a, dz, rs_dz, cs_dz):
        incoming, p, q, out = global_at(da, real), global_at(z, real), global_at(a, real), global_at(dz, real)
        i, j = place()
        if i < rows and j < columns:
            by = slope(param, p[i * rs_z + j * cs_z], q[i * rs_a + j * cs_a])
            out[i * rs_dz + j * cs_dz] = incoming[i * rs_da + j * cs_da] * by

    return backward


@for_each_real
def softmax_of(real):
    """A = softmax(Z) along the rows, a warp a row."""
    zero, one, lowest = real(0.0), real(1.0), real("-inf")

    @kernel(32 * WARPS)
    def softmax(rows, columns, z, rs_z, cs_z, a, rs_a, cs_a):
        p, q = global_at(z, real), global_at(a, real)
        lane, i = cuda.threadIdx.x & 31, cuda.grid(1) >> 5
        if i < rows:
            peak, j = lowest, lane
            while j < columns:
                peak = larger(peak, p[i * rs_z + j * cs_z])
                j += 32
            peak = warp_max(peak)
            mass, j = zero, lane
            while j < columns:
                mass += exp(p[i * rs_z + j * cs_z] - peak)
                j += 32
            scale, j = one / warp_sum(mass), lane
            while j < columns:
                q[i * rs_a + j * cs_a] = exp(p[i * rs_z + j * cs_z] - peak) * scale
                j += 32

    return softmax


@for_each_real
def softmax_slope_of(real):
    """dZ = A * (dA - sum(dA * A)) along the rows, a warp a row."""
    zero = real(0.0)

    @kernel(32 * WARPS)
    def softmax_slope(rows, columns, da, rs_da, cs_da, a, rs_a, cs_a, dz, rs_dz, cs_dz):
        incoming, p, out = global_at(da, real), global_at(a, real), global_at(dz, real)
        lane, i = cuda.threadIdx.x & 31, cuda.grid(1) >> 5
        if i < rows:
            mean, j = zero, lane
            while j < columns:
                mean += incoming[i * rs_da + j * cs_da] * p[i * rs_a + j * cs_a]
                j += 32
            mean, j = warp_sum(mean), lane
            while j < columns:
                out[i * rs_dz + j * cs_dz] = p[i * rs_a + j * cs_a] * (incoming[i * rs_da + j * cs_da] - mean)
                j += 32

    return softmax_slope


def warps(rows):
    """(blocks, threads) of a grid with a warp for each row."""
    return max(1, -(-rows // WARPS)), 32 * WARPS


@checked()
def activation_forward(code: int, param: float, Z: DeviceArray, A: DeviceArray, stream: Stream = 0) -> None:
    """A = g(Z).

    Parameters
    ----------
    code : int
        An activation code such as `kernels.RELU`; SOFTMAX works along the last axis.
    param : float
        alpha of leaky_relu and elu; others ignore it.
    Z : device array (m, n), float32 or float64
        Inputs, any strides.
    A : device array (m, n), dtype of Z
        Receives the outputs; may be Z.
    stream : stream, optional
        Where it is queued.
    """
    real, arguments = Z.dtype.type, (Z.address, *Z.strides, A.address, *A.strides)
    if code == SOFTMAX:
        run(softmax_of(real), warps(Z.shape[0]), stream, *Z.shape, *arguments)
    else:
        run(forward_of(real, code), plane(*Z.shape), stream, real(param), *Z.shape, *arguments)


@checked()
def activation_backward(
    code: int, param: float, dA: DeviceArray, Z: DeviceArray, A: DeviceArray, dZ: DeviceArray, stream: Stream = 0
) -> None:
    """dZ = dA * g'(Z), for softmax its Jacobian times dA.

    Parameters
    ----------
    code : int
        An activation code.
    param : float
        alpha of leaky_relu and elu; others ignore it.
    dA : device array (m, n), float32 or float64
        Gradient with respect to A.
    Z, A : device array (m, n), dtype of dA
        Inputs and outputs of the forward pass. Z may be A itself, but for silu, gelu and gelu_tanh, whose derivative
        is not a function of the output.
    dZ : device array (m, n), dtype of dA
        Receives the gradient with respect to Z; may be dA.
    stream : stream, optional
        Where it is queued.
    """
    real, da, z, a, dz = dA.dtype.type, *((x.address, *x.strides) for x in (dA, Z, A, dZ))
    if code == SOFTMAX:
        run(softmax_slope_of(real), warps(dA.shape[0]), stream, *dA.shape, *da, *a, *dz)
    else:
        run(backward_of(real, code), plane(*dA.shape), stream, real(param), *dA.shape, *da, *z, *a, *dz)
