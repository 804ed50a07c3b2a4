"""Activations and their derivatives over whole arrays: loops around the formulas, a kernel for each activation."""

from ..annotations import DeviceArray, Stream
from ..formulas import CUSTOM, ELU, GELU, GELU_TANH, LEAKY_RELU, RELU, SIGMOID, SILU, SOFTMAX, SOFTPLUS, TANH
from .custom import activation_of
from .formulas import formulas_of
from .launch import operand, place, plane, run
from .primitives import exp, global_at, opaque, warp_max, warp_sum
from .toolchain import cuda, device, for_each_real, kernel

WARPS = 4  # of a block whose warps take a row each


@for_each_real
def any_activation_of(real, own=()):
    """(g(code, param, z), g'(code, param, z, a)) for an activation that is known when the kernel runs.

    `own`: pairs of the user's own, with the codes from CUSTOM on.
    """
    if own:
        return _with_one_more(real, own)
    pairs = formulas_of(real).activations
    relu, leaky_relu, elu, softplus = (pairs[code][0] for code in (RELU, LEAKY_RELU, ELU, SOFTPLUS))
    sigmoid, tanh, silu, gelu, gelu_tanh = (pairs[code][0] for code in (SIGMOID, TANH, SILU, GELU, GELU_TANH))
    relu_, leaky_relu_, elu_, softplus_ = (pairs[code][1] for code in (RELU, LEAKY_RELU, ELU, SOFTPLUS))
    sigmoid_, tanh_, silu_, gelu_, gelu_tanh_ = (pairs[code][1] for code in (SIGMOID, TANH, SILU, GELU, GELU_TANH))
    one = real(1.0)

    @device
    def activate(code, param, z):
        code = opaque(code)
        if code == RELU:
            z = relu(param, z)
        elif code == TANH:
            z = tanh(param, z)
        elif code == SIGMOID:
            z = sigmoid(param, z)
        elif code == LEAKY_RELU:
            z = leaky_relu(param, z)
        elif code == ELU:
            z = elu(param, z)
        elif code == SOFTPLUS:
            z = softplus(param, z)
        elif code == SILU:
            z = silu(param, z)
        elif code == GELU:
            z = gelu(param, z)
        elif code == GELU_TANH:
            z = gelu_tanh(param, z)
        return z

    @device
    def slope(code, param, z, a):
        by, code = one, opaque(code)
        if code == RELU:
            by = relu_(param, z, a)
        elif code == TANH:
            by = tanh_(param, z, a)
        elif code == SIGMOID:
            by = sigmoid_(param, z, a)
        elif code == LEAKY_RELU:
            by = leaky_relu_(param, z, a)
        elif code == ELU:
            by = elu_(param, z, a)
        elif code == SOFTPLUS:
            by = softplus_(param, z, a)
        elif code == SILU:
            by = silu_(param, z, a)
        elif code == GELU:
            by = gelu_(param, z, a)
        elif code == GELU_TANH:
            by = gelu_tanh_(param, z, a)
        return by

    return activate, slope


def _with_one_more(real, own):
    """`any_activation_of` for the last of the user's pairs, and all before it."""
    others, others_slope = any_activation_of(real, own[:-1])
    (last, last_slope), of_last = activation_of(real, own[-1]), CUSTOM + len(own) - 1

    @device
    def activate(code, param, z):
        return last(param, z) if opaque(code) == of_last else others(code, param, z)

    @device
    def slope(code, param, z, a):
        return last_slope(param, z, a) if opaque(code) == of_last else others_slope(code, param, z, a)

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
                value = p[i * rs_z + j * cs_z]
                peak = value if value > peak or value != value else peak
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
    z = operand("Z", Z, 2)
    a, real = operand("A", A, 2, z.dtype), z.dtype.type
    if code == SOFTMAX:
        run(softmax_of(real), warps(z.shape[0]), stream, *z.shape, z.address, *z.strides, a.address, *a.strides)
    else:
        shape = plane(*z.shape)
        arguments = z.address, *z.strides, a.address, *a.strides
        run(forward_of(real, code), shape, stream, real(param), *z.shape, *arguments)


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
    da = operand("dA", dA, 2)
    z, a, dz = (operand(name, x, 2, da.dtype) for name, x in (("Z", Z), ("A", A), ("dZ", dZ)))
    ends = dz.address, *dz.strides
    if code == SOFTMAX:
        arguments = *da.shape, da.address, *da.strides, a.address, *a.strides, *ends
        run(softmax_slope_of(da.dtype.type), warps(da.shape[0]), stream, *arguments)
    else:
        real, shape = da.dtype.type, plane(*da.shape)
        arguments = da.address, *da.strides, z.address, *z.strides, a.address, *a.strides, *ends
        run(backward_of(real, code), shape, stream, real(param), *da.shape, *arguments)
