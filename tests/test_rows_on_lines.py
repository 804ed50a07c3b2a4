"""Rows that are read many times are copied to cache lines where they stand between them; no bit changes by it."""

import numpy as np
import pytest
from nets import data, pair

from fastnn import backends, plans
from fastnn.kernels import plan


def shifted(X, elements):
    """A copy of X that begins so many elements behind a cache line."""
    memory = plan.aligned(X.size + elements, X.dtype)[elements:].reshape(X.shape)
    memory[...] = X
    return memory


# features that fill lines, that leave a small gap, that are whole pages
@pytest.mark.parametrize("features", [96, 127, 2048])
@pytest.mark.parametrize("elements", [0, 4])
def test_each_row_begins_on_a_line(features, elements, dtype):
    X = shifted(np.random.default_rng(0).standard_normal((7, features)).astype(dtype), elements)
    out = backends.rows_on_lines(X)
    assert np.array_equal(out, X) and out.strides[1] == X.itemsize
    assert out.ctypes.data % 64 == 0 and out.strides[0] % 64 == 0 and out.strides[0] % 4096 != 0
    assert (out is X) == (elements == 0 and features == 96)


@pytest.mark.parametrize("features, most", [(28, 1 << 26), (96, 1000)], ids=["wide gaps", "much memory"])
def test_what_is_not_worth_a_copy_stays(features, most, monkeypatch):
    monkeypatch.setattr(plan, "COPIED_BYTES", most)
    X = shifted(np.ones((7, features), np.float32), 4)
    assert backends.rows_on_lines(X) is X


@pytest.mark.parametrize("visits", [plans.MANY_VISITS - 1, plans.MANY_VISITS])
@pytest.mark.parametrize("batch_size", [None, 16])
def test_a_fit_has_the_same_bits(visits, batch_size, monkeypatch):
    X, y = data(50, 64, 3)
    bound, bind = [], backends.rows_on_lines
    monkeypatch.setattr(backends, "rows_on_lines", lambda X: bound.append(bind(X)) or bound[-1])
    results = []
    for elements in (0, 1):
        net, _, _ = pair((64, 5, 3), ("tanh", "softmax"))
        net.fit(shifted(X, elements), y, epochs=visits, batch_size=batch_size, shuffle=False)
        results.append(net.parameters.tobytes())
    assert results[0] == results[1]
    assert len(bound) == (2 if visits == plans.MANY_VISITS else 0)
