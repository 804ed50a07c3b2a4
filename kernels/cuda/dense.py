"""A fully connected layer: Z = X W^T + b, A = g(Z), and its gradients, each with what belongs to it in one pass."""

from ..annotations import DeviceArray, Stream
from ..formulas import LINEAR, SOFTMAX
from .activations import activation_backward, activation_forward
from .launch import operand
from .matmul import NOBODY, PLAIN, Side, multiply, side, space, work_size
from .tiling import ACTIVATE, SLOPE


def dense_forward(
    X: DeviceArray,
    W: DeviceArray,
    b: DeviceArray,
    activation: int,
    param: float,
    work: DeviceArray | None,
    Z: DeviceArray,
    A: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """Z = X W^T + b, A = g(Z): bias and activation follow the product before it leaves the chip.

    Parameters
    ----------
    X : device array (m, n_in), float32 or float64
        Samples, any strides.
    W : device array (n_out, n_in), dtype of X
        Weights.
    b : device array (n_out,), dtype of X
        Biases.
    activation : int
        An activation code such as `kernels.RELU`.
    param : float
        alpha of leaky_relu and elu.
    work : None
        Not used; it stands here as in the kernel of the CPU.
    Z, A : device array (m, n_out), dtype of X
        Receive the pre-activations and the outputs. Z may be A, but for silu, gelu and gelu_tanh if a backward pass
        follows.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    x = operand("X", X, 2)
    real, (m, n_in) = x.dtype.type, x.shape
    w, bias = operand("W", W, 2, real), operand("b", b, 1, real)
    z, a = side("Z", Z, real), side("A", A, real)
    code = LINEAR if activation == SOFTMAX else activation
    weights = Side(w.address, *w.strides).turned()
    multiply(
        real,
        stream,
        (m, w.shape[0], n_in),
        Side(x.address, *x.strides),
        weights,
        a,
        (ACTIVATE, code, param),
        Side(bias.address, 0, *bias.strides),
        NOBODY if z == a else z,
        precision=precision,
    )
    if activation == SOFTMAX:
        activation_forward(SOFTMAX, param, A, A, stream)


def input_gradient(
    dZ: DeviceArray,
    W: DeviceArray,
    activation: int,
    param: float,
    Z: DeviceArray | None,
    A: DeviceArray | None,
    dX: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """dX = (dZ W) * g'(Z): the gradient with respect to the pre-activations of the layer before, in one pass.

    Parameters
    ----------
    dZ : device array (m, n_out), float32 or float64
        Gradient with respect to the pre-activations of this layer.
    W : device array (n_out, n_in), dtype of dZ
        Its weights.
    activation : int
        Code of the activation of the layer before; LINEAR for the inputs of a net.
    param : float
        alpha of leaky_relu and elu.
    Z, A : device array (m, n_in), dtype of dZ
        Of the layer before; Z may be A, but for silu, gelu and gelu_tanh. None for LINEAR.
    dX : device array (m, n_in), dtype of dZ
        Receives the gradient.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    delta = operand("dZ", dZ, 2)
    real, (m, n_out) = delta.dtype.type, delta.shape
    w, out = operand("W", W, 2, real), side("dX", dX, real)
    then, one, two = PLAIN, NOBODY, NOBODY
    if activation != LINEAR:
        then, one, two = (SLOPE, activation, param), side("Z", Z, real), side("A", A, real)
    sizes = m, w.shape[1], n_out
    a, b = Side(delta.address, *delta.strides), Side(w.address, *w.strides)
    multiply(real, stream, sizes, a, b, out, then, one, two, precision=precision)


def weight_gradient(
    dZ: DeviceArray,
    X: DeviceArray,
    work: DeviceArray | None,
    dW: DeviceArray,
    db: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """dW = dZ^T X and db = the sum of dZ, in one pass; a long batch is cut into parts, combined in their order.

    Parameters
    ----------
    dZ : device array (m, n_out), float32 or float64
        Gradient with respect to the pre-activations.
    X : device array (m, n_in), dtype of dZ
        Inputs of the layer.
    work : device array (w,), dtype of dZ
        Working space of `work_size(m, n_in, n_out)` elements, consecutive; None: slower for long batches, without it.
    dW : device array (n_out, n_in), dtype of dZ
        Receives the gradient with respect to W.
    db : device array (n_out,), dtype of dZ
        Receives the gradient with respect to b.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    delta = operand("dZ", dZ, 2)
    real, (m, n_out) = delta.dtype.type, delta.shape
    x, sums = operand("X", X, 2, real), operand("db", db, 1, real)
    a, b = Side(delta.address, *delta.strides).turned(), Side(x.address, *x.strides)
    sizes, to = (n_out, x.shape[1], m), side("dW", dW, real)
    added, room = (sums.address, *sums.strides), space("work", work, real)
    multiply(real, stream, sizes, a, b, to, sums=added, work=room, precision=precision)


def dense_backward(
    dA: DeviceArray,
    Z: DeviceArray,
    A: DeviceArray,
    X: DeviceArray,
    W: DeviceArray,
    activation: int,
    param: float,
    work: DeviceArray | None,
    dX: DeviceArray | None,
    dW: DeviceArray,
    db: DeviceArray,
    stream: Stream = 0,
    precision: str = "float32",
) -> None:
    """Gradients of a layer: dZ = dA * g'(Z), dW = dZ^T X, db = sum of dZ, dX = dZ W.

    Parameters
    ----------
    dA : device array (m, n_out), float32 or float64
        Gradient with respect to A; overwritten with dZ.
    Z, A : device array (m, n_out), dtype of dA
        Of the forward pass.
    X : device array (m, n_in), dtype of dA
        Samples.
    W : device array (n_out, n_in), dtype of dA
        Weights.
    activation : int
        An activation code.
    param : float
        alpha of leaky_relu and elu.
    work : device array (w,), dtype of dA
        Working space of `work_size(m, n_in, n_out)` elements, consecutive; None: slower for long batches, without it.
    dX : device array (m, n_in), dtype of dA
        Receives the gradient with respect to X; None if it is not wanted.
    dW : device array (n_out, n_in), dtype of dA
        Receives the gradient with respect to W.
    db : device array (n_out,), dtype of dA
        Receives the gradient with respect to b.
    stream : stream, optional
        Where it is queued.
    precision : str, optional
        "float32", "tf32" or "bf16", as in `matmul`.
    """
    if activation != LINEAR:
        activation_backward(activation, param, dA, Z, A, dA, stream)
    weight_gradient(dA, X, work, dW, db, stream, precision)
    if dX is not None:
        input_gradient(dA, W, LINEAR, 0.0, None, None, dX, stream, precision)


__all__ = ["dense_backward", "dense_forward", "input_gradient", "weight_gradient", "work_size"]
