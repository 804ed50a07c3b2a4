"""The one table of tolerances, and the one comparison that uses it: |actual - ref| <= atol + rtol |ref|.

- pointwise: one elementary formula an element; a few ulp, and as much in absolute terms where 1 cancels.
- slope: a derivative taken from the rounded output: where a gate saturates, 1 - a is all rounding, and gelu's
  factor z (1 + 0.134 z^2) multiplies it by about twenty.
- sum: dot products and means over up to some hundred terms of order one, in whatever order.
- tensor: a sum by the tensor cores, beside that of the rounded operands; they cut off bits when they add, so errors
  grow with the length, not with its root. Operands that are not rounded differ by 3e-4 (tf32) or 2e-3 (bf16).
- training: some ten steps, each a chain of sums.
- torch: fifty steps against torch, which rounds in its own order; rmsprop apart, whose first steps divide a
  gradient by little more than its own size, so that rounding in a small gradient moves a whole step.
- difference: a derivative against central differences with step 1e-6 (float64 only).

Where arrays are large, their norms are compared instead: |actual - ref| <= limit |ref|. For a float32 sum of 4,097
terms tf32 would give 3e-4, bfloat16 more.
"""

import numpy as np

TOLERANCE = {
    # kind: {dtype: (rtol, atol)}
    "pointwise": {"float64": (2e-14, 2e-15), "float32": (1e-6, 5e-7)},
    "slope": {"float64": (2e-14, 2e-14), "float32": (2e-6, 5e-6)},
    "sum": {"float64": (1e-12, 1e-13), "float32": (2e-5, 2e-5)},
    "tensor": {"float32": (2e-5, 2e-5)},
    "training": {"float64": (1e-10, 1e-12), "float32": (2e-4, 2e-5)},
    "torch": {"float64": (1e-10, 1e-10), "float32": (1e-5, 1e-5)},
    "torch_rmsprop": {"float64": (1e-10, 1e-10), "float32": (1e-4, 1e-4)},
    "difference": {"float64": (1e-6, 1e-8)},
}

NORM = {
    "pointwise": {"float64": 1e-14, "float32": 1e-6},
    "sum": {"float64": 1e-13, "float32": 1e-5},
    "tensor": {"float32": 5e-5},
    "tf32": {"float32": 1e-3},
    "bf16": {"float32": 1e-2},
    "rounded": {"float32": 5e-4},  # beside sums of rounded operands, some of which lie between two neighbours
    "training": {"float64": 1e-10, "float32": 1e-4},
}


def assert_close(actual, expected, kind, dtype=None, what=""):
    """Fail unless `actual` has the shape of `expected` and its values within the tolerance; NaN equals NaN.

    dtype is that of the computation; by default that of `actual`.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    rtol, atol = TOLERANCE[kind][np.dtype(dtype or actual.dtype).name]
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, err_msg=what
    )


def assert_near(actual, expected, kind, dtype=None, what=""):
    """Fail unless `actual` differs from `expected` by little of its norm; NaN never passes."""
    actual, expected = np.asarray(actual), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, f"{what}: shape {actual.shape}, expected {expected.shape}"
    error = np.linalg.norm((actual - expected).ravel()) / max(np.linalg.norm(expected.ravel()), np.finfo(float).tiny)
    limit = NORM[kind][np.dtype(dtype or actual.dtype).name]
    assert error <= limit, f"{what}: the difference is {error:.2g} of the norm, above {limit:.2g}"
