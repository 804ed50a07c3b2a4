"""The kernels and the loop run without compilation, for debuggers and for line coverage."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn.kernels.options import is_x86


def check(*options, **environment):
    """Run the tests of `plain_python.py`; gives what pytest wrote."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "plain_python.py"]
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"} | environment
    folder = Path(__file__).parent
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("left_out", ["float64", pytest.param("float32", marks=pytest.mark.slow)])
def test_every_kernel_runs_as_plain_python(left_out):
    check("-k", f"not {left_out}")


@pytest.mark.skipif(not is_x86(), reason="only x86-64 processors have such tiles")
def test_products_of_rounded_operands_run_on_any_machine():
    features = "+sse2,+avx,+avx2,+fma,+avx512f,+avx512bf16,+amx-tile,+amx-bf16"
    written = check("-k", "rounded", NUMBA_CPU_NAME="sapphirerapids", NUMBA_CPU_FEATURES=features)
    assert "3 passed" in written and "skipped" not in written
