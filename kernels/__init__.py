"""The kernel contract.

A kernel is one compiled function that does one thing to arrays, on the CPU (`kernels.cpu`) or, under the same name
and with the same arguments, on a GPU. Everything above them only decides which kernel runs on what.

- Data are samples x features in C order: X (m, n_in), W (n_out, n_in), b (n_out,), Z, A and dZ (m, n_out). Any
  strides are accepted; contiguous is fast. All arrays of one call have one dtype, float32 or float64; codes of levels
  are int32.
- Outputs are the caller's, come last, and are never read before they are written. `work` is scratch of
  `work_size(m, n, k)` elements; an empty one picks a slower path without it.
- A kernel allocates nothing (but `apply_rows`, which takes a few rows of working space from the heap), opens no
  parallel region, and owns its edge sizes. NaN and infinity travel through. A code that no activation or loss has gives
  NaN.
- An output shares memory with another array of the call only where its docstring says that it may be that array.
- Called from Python, a kernel raises TypeError or ValueError, with the name of the argument, for what it would read or
  write elsewhere. In an @njit function wrong dtypes, numbers of dimensions and read-only outputs are a TypingError;
  shapes are checked with boundscheck=True, else they are the caller's promise.
- Elements stand at multiples of their size, which those of a field of a packed record do not: ValueError.
- Z may be A itself, but for activations whose derivative is not a function of their output (silu, gelu, gelu_tanh).
- `param` is alpha (leaky_relu, elu), delta (huber) or the quantile (quantile). Codes are the integers below.
- Every CPU kernel can be called from Python and from the user's own @njit function, which calls it and does not compile
  it in. A user's own function cached on disk is compiled anew after an upgrade.
"""

if __name__ != "fastnn.kernels":
    raise ImportError(
        f"these kernels are the package fastnn.kernels, imported here as {__name__!r}; "
        "install fastnn (pip install -e .) and import fastnn.kernels"
    )

from .formulas import (
    ADAGRAD,
    ADAM,
    BINARY_CROSS_ENTROPY,
    CROSS_ENTROPY,
    ELU,
    EXP,
    GAUSSIAN,
    GELU,
    GELU_TANH,
    HUBER,
    LEAKY_RELU,
    LINEAR,
    MAE,
    MOMENTUM,
    MSE,
    NESTEROV,
    POISSON,
    QUANTILE,
    RELU,
    RMSPROP,
    SGD,
    SIGMOID,
    SILU,
    SOFTMAX,
    SOFTPLUS,
    TANH,
)

__all__ = [
    "ADAGRAD",
    "ADAM",
    "BINARY_CROSS_ENTROPY",
    "CROSS_ENTROPY",
    "ELU",
    "EXP",
    "GAUSSIAN",
    "GELU",
    "GELU_TANH",
    "HUBER",
    "LEAKY_RELU",
    "LINEAR",
    "MAE",
    "MOMENTUM",
    "MSE",
    "NESTEROV",
    "POISSON",
    "QUANTILE",
    "RELU",
    "RMSPROP",
    "SGD",
    "SIGMOID",
    "SILU",
    "SOFTMAX",
    "SOFTPLUS",
    "TANH",
]
