"""A formula stands once: a change of any of them changes what nets compute, on both backends."""

import importlib.util

import pytest
from subprocesses import python

COUNTS = {"activation": 22, "loss": 15, "rule": 8}  # formulas, derivatives, and what rules prepare


def test_no_change_of_a_formula_goes_unseen():
    code = "import mutants; mutants.main('cpu')"
    assert python(code, NUMBA_DISABLE_JIT="1") == f"{sum(COUNTS.values())}\n"


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda: pip install 'fastnn-numba[cu13]'"
)
@pytest.mark.parametrize("kind", COUNTS)
def test_nor_on_a_gpu(kind):
    own = dict(NUMBA_DISABLE_JIT="1", NUMBA_ENABLE_CUDASIM="1")
    assert python(f"import mutants; mutants.main('cuda', {kind!r})", **own) == f"{COUNTS[kind]}\n"
