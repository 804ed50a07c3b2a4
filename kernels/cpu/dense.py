"""A fully connected layer: Z = X W^T + b, A = g(Z), and the three gradients.

The training loop keeps a block of samples as (features, samples), the samples along the lanes, so that even a layer
of two units fills the registers: all functions but the last two work on that. `dense_forward`
and `dense_backward` are the public kernels on (samples, features) arrays.
"""

from ..annotations import Floats
from ..formulas import LINEAR, SOFTMAX
from ..options import FAST, jit
from .activations import activate, activate_any, activate_slope, activate_slope_any, softmax, softmax_slope
from .matmul import ACCUMULATE, BIAS, ZERO, product, product_any, product_rows
from .memory import address_of, plain
from .simd import lanes, like, load_strided, store_strided, total

STRIP = 32  # rows whose activation follows their product while both are in the first-level cache


@jit(FAST)
def forward_lanes(n_in, n_out, samples, W, b, code, param, x, ld, z, a):
    """Z = W X + b and A = g(Z), all (features, ld) with consecutive samples; a may be z."""
    for o in range(0, n_out, STRIP):
        rows = min(STRIP, n_out - o)
        zo, ao = z + o * ld, a + o * ld
        product(rows, samples, n_in, W + o * n_in, n_in, plain(1), x, ld, zo, ld, plain(BIAS), b + o)
        if code != LINEAR and code != SOFTMAX:
            activate(code, param, rows, samples, zo, ld, ao, ld)


@jit(FAST)
def input_gradient_lanes(n_in, n_out, samples, W, delta, code, param, z, a, ld, out):
    """out = (W^T delta) * g'(z): the next delta, all (features, ld)."""
    for i in range(0, n_in, STRIP):
        rows = min(STRIP, n_in - i)
        target = out + i * ld
        product(rows, samples, n_out, W + i, plain(1), n_in, delta, ld, target, ld, plain(ZERO), W)
        if code != LINEAR:
            zi, ai = z + i * ld, a + i * ld
            activate_slope(code, param, rows, samples, target, ld, zi, ld, ai, ld, target, ld)


@jit(FAST)
def forward_rows(n_in, n_out, samples, W, b, code, param, rows, ld_rows, ld, z, a):
    """`forward_lanes` from samples as they lie, `rows` (samples, features): for few outputs of many features.

    It saves the transposition of the samples, at the price of one sum across the lanes for each output.
    """
    product_rows(n_out, samples, n_in, W, n_in, rows, ld_rows, z, ld, plain(1), plain(BIAS), b)
    if code != LINEAR and code != SOFTMAX:
        activate(code, param, n_out, samples, z, ld, a, ld)


@jit(FAST)
def weight_gradient(n_in, n_out, samples, delta, ld, rows, ld_rows, start, dW, ld_dw):
    """dW = delta rows, where `rows` is (samples, features); ACCUMULATE adds."""
    product(n_out, n_in, samples, delta, ld, plain(1), rows, ld_rows, dW, ld_dw, start, dW)


@jit(FAST)
def weight_gradient_narrow(n_in, n_out, samples, delta, x, ld, start, dW, ld_dw):
    """dW = delta x^T with both (features, ld): for layers with so few inputs that they would not fill the lanes."""
    product_rows(n_out, n_in, samples, delta, ld, x, ld, dW, ld_dw, plain(1), start, dW)


@jit(FAST)
def bias_gradient(n_out, samples, delta, ld, start, db):
    """db = sum of delta over the samples; ACCUMULATE adds."""
    for o in range(n_out):
        summed = like(0.0, load_strided(delta, 1, 0))
        for s in range(0, samples, lanes(delta)):
            summed = summed + load_strided(delta + (o * ld + s), 1, samples - s)
        db[o] = total(summed) + (db[o] if start == ACCUMULATE else 0.0)


@jit(FAST, public=True)
def dense_forward(
    X: Floats, W: Floats, b: Floats, activation: int, param: float, work: Floats, Z: Floats, A: Floats
) -> None:
    """Z = X W^T + b, A = g(Z).

    Parameters
    ----------
    X : array (m, n_in), float32 or float64
        Samples, any strides.
    W : array (n_out, n_in), dtype of X
        Weights.
    b : array (n_out,), dtype of X
        Biases.
    activation : int
        An activation code such as `kernels.RELU`.
    param : float
        alpha of leaky_relu and elu.
    work : array (w,), dtype of X
        Scratch of `work_size(m, n_in, n_out)` elements, consecutive; empty: slower, without it.
    Z, A : array (m, n_out), dtype of X
        Receive the pre-activations and the outputs. Z may be A, but for silu, gelu and gelu_tanh if a backward pass
        follows.
    """
    m, n_in = X.shape
    n_out = W.shape[0]
    s = X.itemsize
    rs_z, cs_z, rs_a, cs_a = Z.strides[0] // s, Z.strides[1] // s, A.strides[0] // s, A.strides[1] // s
    z, a, bias, by_bias = address_of(Z), address_of(A), address_of(b), b.strides[0] // s
    for i in range(m):
        for o in range(0, n_out, lanes(z)):
            left = n_out - o
            store_strided(z + (i * rs_z + o * cs_z), cs_z, load_strided(bias + o * by_bias, by_bias, left), left)
    product_any(
        m,
        n_out,
        n_in,
        address_of(X),
        X.strides[0] // s,
        X.strides[1] // s,
        address_of(W),
        W.strides[1] // s,
        W.strides[0] // s,
        z,
        rs_z,
        cs_z,
        ACCUMULATE,
        address_of(work),
        work.size,
    )
    if activation == SOFTMAX:
        softmax(n_out, m, z, cs_z, rs_z, a, cs_a, rs_a)
    else:
        activate_any(activation, param, m, n_out, z, rs_z, cs_z, a, rs_a, cs_a)


@jit(FAST, public=True)
def dense_backward(
    dA: Floats,
    Z: Floats,
    A: Floats,
    X: Floats,
    W: Floats,
    activation: int,
    param: float,
    work: Floats,
    dX: Floats,
    dW: Floats,
    db: Floats,
) -> None:
    """Gradients of a layer: dZ = dA * g'(Z), dW = dZ^T X, db = sum of dZ, dX = dZ W.

    Parameters
    ----------
    dA : array (m, n_out), float32 or float64
        Gradient with respect to A; overwritten with dZ.
    Z, A : array (m, n_out), dtype of dA
        Of the forward pass.
    X : array (m, n_in), dtype of dA
        Samples.
    W : array (n_out, n_in), dtype of dA
        Weights.
    activation : int
        An activation code.
    param : float
        alpha of leaky_relu and elu.
    work : array (w,), dtype of dA
        Scratch of `work_size(m, n_in, n_out)` elements, consecutive; empty: slower, without it.
    dX : array (m, n_in), dtype of dA
        Receives the gradient with respect to X; shape (0, 0) if not wanted.
    dW : array (n_out, n_in), dtype of dA
        Receives the gradient with respect to W.
    db : array (n_out,), dtype of dA
        Receives the gradient with respect to b.
    """
    m, n_in = X.shape
    n_out = W.shape[0]
    s = dA.itemsize
    rs, cs, rs_z, cs_z = dA.strides[0] // s, dA.strides[1] // s, Z.strides[0] // s, Z.strides[1] // s
    rs_a, cs_a, rs_x, cs_x = A.strides[0] // s, A.strides[1] // s, X.strides[0] // s, X.strides[1] // s
    delta, z, a, x, scratch = address_of(dA), address_of(Z), address_of(A), address_of(X), address_of(work)
    if activation == SOFTMAX:
        softmax_slope(n_out, m, delta, cs, rs, a, cs_a, rs_a, delta, cs, rs)
    elif activation != LINEAR:
        activate_slope_any(activation, param, m, n_out, delta, rs, cs, z, rs_z, cs_z, a, rs_a, cs_a, delta, rs, cs)
    rs_w, cs_w = dW.strides[0] // s, dW.strides[1] // s
    product_any(n_out, n_in, m, delta, cs, rs, x, rs_x, cs_x, address_of(dW), rs_w, cs_w, ZERO, scratch, work.size)
    sums, by = address_of(db), db.strides[0] // s
    for o in range(0, n_out, lanes(delta)):
        left = n_out - o
        summed = like(0.0, load_strided(delta, 1, 0))
        for i in range(m):
            summed = summed + load_strided(delta + (i * rs + o * cs), cs, left)
        store_strided(sums + o * by, by, summed, left)
    if dX.size > 0:
        w, out = address_of(W), address_of(dX)
        rs_w, cs_w = W.strides[0] // s, W.strides[1] // s
        rs_x, cs_x = dX.strides[0] // s, dX.strides[1] // s
        product_any(m, n_in, n_out, delta, rs, cs, w, rs_w, cs_w, out, rs_x, cs_x, ZERO, scratch, work.size)
