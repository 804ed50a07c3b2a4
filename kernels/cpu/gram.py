"""The weighted Gram matrix of samples, sum of s x x^T: the Hessian of a layer alone, by blocks that stay in cache.

Symbols: X (m, n): samples; x: a standardised sample, with a 1 behind it for the bias; s: weights of the samples, of any
sign; ld: elements from row to row of a block, ld_x of X.
"""

from ..annotations import Floats
from ..compiler import jit
from ..options import FAST
from .matmul import ACCUMULATE, ZERO, product
from .memory import address_of
from .simd import lanes, load_part, store_part

ROWS = 64  # of a block: two copies of 64 rows of 128 features take 72 KB; 64, 128 and 256 rows cost about the same
# Columns of a panel: of the products of a panel with those before it, the mirror images, none is made. 32,561 samples
# of 110 features in float32: 6.1 ms, with one panel 8.5, by NumPy's product 11.
PANEL = 32


@jit(FAST)
def _copy(count, n, x, ld_x, s, shift, scale, plain, scaled, ld):
    """Rows of a block, standardised, with a 1 behind each; and s times them."""
    for i in range(count):
        weight, p, q = s[i], plain + i * ld, scaled + i * ld
        for j in range(0, n, lanes(x)):
            left = n - j
            value = (load_part(x + (i * ld_x + j), left) - load_part(shift + j, left)) * load_part(scale + j, left)
            store_part(p + j, value, left)
            store_part(q + j, value * weight, left)
        p[n] = 1.0
        q[n] = weight


@jit(FAST, public=True)
def weighted_gram(X: Floats, s: Floats, shift: Floats, scale: Floats, work: Floats, out: Floats) -> None:
    """Out = sum over the samples of s x x^T, with x = ((sample - shift) * scale, 1).

    Parameters
    ----------
    X : array (m, n), float32 or float64
        Samples, in rows of consecutive elements; at least one.
    s : array (m,), dtype of X
        Weights of the samples, consecutive.
    shift, scale : array (n,), dtype of X
        Of each feature, consecutive.
    work : array (w,), dtype of X
        Scratch of `gram_work_size(n)` elements, consecutive.
    out : array (n + 1, n + 1), dtype of X
        Receives the result, in C order.
    """
    m, n = X.shape
    ld_x, wide, ld = X.strides[0] // X.itemsize, n + 1, _line(n)
    x, weights, plain, c = address_of(X), address_of(s), address_of(work), address_of(out)
    scaled, start = plain + ROWS * ld, ZERO
    for first in range(0, m, ROWS):
        count, at = min(ROWS, m - first), weights + first
        _copy(count, n, x + first * ld_x, ld_x, at, address_of(shift), address_of(scale), plain, scaled, ld)
        for j in range(0, wide, PANEL):
            rows, columns, target = min(PANEL, wide - j), wide - j, c + (j * wide + j)
            product(rows, columns, count, scaled + j, 1, ld, plain + j, ld, 1, target, wide, start, c)
        start = ACCUMULATE
    for i in range(wide):
        for j in range(i):
            c[i * wide + j] = c[j * wide + i]


@jit(FAST)
def _line(n):
    """Elements from row to row of a block: an odd number of cache lines."""
    return (n + 1 + 31) // 32 * 32 + 16


@jit(FAST, public=True)
def gram_work_size(n: int) -> int:
    """Elements of scratch of `weighted_gram`.

    Parameters
    ----------
    n : int
        Features.

    Returns
    -------
    int
        Number of elements, in the dtype of the samples.
    """
    return 2 * ROWS * _line(n)
