"""Kernels that users' compiled functions call: linked by a name, in this process and from Numba's cache on disk."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from numba import config, njit, types

from fastnn.kernels import symbols
from fastnn.kernels.cpu import sgd_update

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is linked where nothing is compiled")

VECTOR = types.Array(types.float64, 1, "A")
SGD = "fastnn.kernels.cpu.updates", "sgd_update", types.none(VECTOR, VECTOR, types.float64, types.float64)
INNER = """
from numba import njit
from fastnn.kernels.cpu import sgd_update

@njit(cache=True)
def halved(theta):
    sgd_update(theta, theta, 0.5, 0)
"""
OUTER = """
import sys
import numpy as np
from numba import njit
import inner

@njit(cache=True)
def quartered(theta):
    inner.halved(theta)
    inner.halved(theta)

theta = np.full(3, 8.0)
(quartered if "outer" in sys.argv else inner.halved)(theta)
print(*theta, sum(quartered.stats.cache_hits.values()), sum(inner.halved.stats.cache_hits.values()))
"""


@njit
def halve(theta):
    sgd_update(theta, theta, 0.5, 0)


def test_a_kernel_is_called_and_not_compiled_in():
    for theta in (np.full(3, 8.0), np.full(6, 8.0)[::2]):
        halve(theta)
        assert theta.tolist() == [4.0, 4.0, 4.0]
    for text in halve.inspect_llvm().values():
        assert symbols.symbol(*SGD).name in text and "<8 x double>" not in text and "<4 x double>" not in text


def test_a_symbol_comes_back_from_a_pickle_for_the_same_kernels_only(monkeypatch):
    found = symbols.symbol(*SGD)
    kept = pickle.dumps(found)
    assert pickle.loads(kept) is found
    monkeypatch.setattr(symbols, "SOURCES", "other")
    with pytest.raises(OSError, match="other kernels"):  # what Numba's cache takes for a lost file
        pickle.loads(kept)


@pytest.mark.slow
def test_functions_in_numbas_cache_find_their_kernels(tmp_path):
    """`quartered` is compiled with a `halved` that was loaded, then loaded without it."""
    (tmp_path / "inner.py").write_text(INNER, encoding="utf-8")
    (tmp_path / "outer.py").write_text(OUTER, encoding="utf-8")

    def printed(*words):
        command = [sys.executable, "outer.py", *words]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.split()

    assert printed("inner") == ["4.0", "4.0", "4.0", "0", "0"]
    assert printed("outer") == ["2.0", "2.0", "2.0", "0", "1"]
    assert printed("outer") == ["2.0", "2.0", "2.0", "1", "0"]
