"""The extensions of `test_extensions.py` in the simulator of numba-cuda: no file of the loops knows of them."""

import importlib.util
import json

import pytest
from extensions import EXTENSIONS, extend, training
from subprocesses import python

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="no numba-cuda: pip install 'fastnn-numba[cu13]'"
)
CASES = [(kind, loop) for kind in EXTENSIONS for loop in ("block", "graph")]


@pytest.mark.parametrize(
    ("kind", "loop"),
    [case if case == ("layer", "block") else pytest.param(*case, marks=pytest.mark.slow) for case in CASES],
)
def test_an_extension_trains_as_on_the_cpu(kind, loop, tmp_path):
    extend(kind, tmp_path / "site")
    own = dict(PYTHONPATH=tmp_path / "site", NUMBA_DISABLE_JIT="1")
    right = json.loads(python(training(kind, "cpu", "float64", ""), **own))
    own |= dict(NUMBA_ENABLE_CUDASIM="1", FASTNN_CUDA_LOOP=loop)
    found = json.loads(python(training(kind, "cuda", "float64", ""), **own))
    for one, other in zip(found, right, strict=True):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12)
