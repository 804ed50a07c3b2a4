"""No call of anything public crashes, hangs, or raises what is not documented: seeded samples of `fuzz.py`."""

import sys

import numba
import pytest
import subprocesses

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="no limit of memory for a process"),
    pytest.mark.skipif(numba.config.DISABLE_JIT, reason="plain Python is checked by Python"),
]


def check(first, count):
    """Run cases in a process of their own: it prints their numbers, and what is wrong with them."""
    with subprocesses.start(f"import fuzz; fuzz.main({first}, {count})") as child:
        out = subprocesses.finish(child)
    assert out.split() == [str(number) for number in range(first, first + count)], out


def test_hostile_calls():
    check(0, 60)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 5000, 1000))
def test_thousands_of_hostile_calls(first):
    check(first, 1000)
