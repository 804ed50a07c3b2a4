"""What every test shares."""

import os
import signal

import numba
import pytest
from hypothesis import settings

os.environ["MPLBACKEND"] = "agg"  # no windows

# a first example may compile; the same examples on every run; few in plain Python, which takes its time
examples = 4 if numba.config.DISABLE_JIT else 40
settings.register_profile("fastnn", deadline=None, derandomize=True, database=None, max_examples=examples)
settings.load_profile("fastnn")

# a shell that starts the tests in the background lets them, and the processes that they start, ignore Ctrl-C
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Name of a floating-point type."""
    return request.param


@pytest.fixture(scope="session")
def cats():
    """(X_train, y_train, X_test, y_test) of the cat pictures; skips where the file is not there."""
    import recipes

    data = recipes.cats()
    if data is None:
        pytest.skip(f"no cat_vs_noncat.npz in {recipes.data_directory()} (set FASTNN_DATA)")
    return data
