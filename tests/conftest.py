"""What every test shares."""

import gc
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


MOST_WORKERS = 4  # each takes up to 1 GB, and compiles from an empty cache what it comes to first


def pytest_xdist_auto_num_workers(config):
    """Processes for all quick tests; none beside this one for what was chosen, a debugger, or output to look at."""
    whole = config.args_source is config.ArgsSource.TESTPATHS and config.option.markexpr in config.getini("addopts")
    chosen = config.option.keyword or config.getoption("lf", False)
    if not whole or chosen or config.option.trace or config.option.capture == "no":
        return 0
    return min(os.cpu_count() or 1, MOST_WORKERS)


def pytest_collection_finish(session):
    """What was imported until now stays: no search for garbage needs to look at it."""
    gc.collect()
    gc.freeze()


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


def pytest_runtest_setup(item):
    if item.get_closest_marker("cuda"):
        import gpu

        missing = gpu.missing()
        if missing:
            pytest.skip(missing)
