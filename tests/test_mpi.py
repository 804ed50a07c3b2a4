"""fastnn.mpi: fits of several processes, which mpiexec starts."""

import importlib.util
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from subprocesses import TIMEOUT, environment

import fastnn
from fastnn import backends
from fastnn.ranks import nodes, tree_sum

# the one that came with the MPI of this environment, if any, before another
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
START = [MPIEXEC, "-n"]
HERE = importlib.util.find_spec("mpi4py") is not None and MPIEXEC is not None
needs_mpi = pytest.mark.skipif(not HERE, reason="no mpi4py, or no mpiexec: pip install 'fastnn-numba[mpi]' mpich")
# Open MPI refuses to be started by root, and to start more ranks than there are cores
OPEN_MPI = {
    "OMPI_ALLOW_RUN_AS_ROOT": 1,
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": 1,
    "OMPI_MCA_rmaps_base_oversubscribe": 1,
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
}


def mpiexec(ranks, code):
    """(exit status, output) of ranks that run some of `mpi_jobs`, every warning an error."""
    code = f"from mpi_jobs import *\n{code}\ntell('done')"
    return run([*START, str(ranks), sys.executable, "-P", "-W", "error", "-c", code])


def run(command):
    """(exit status, output) of a command."""
    child = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        env=environment(**OPEN_MPI),
    )
    return child.returncode, child.stdout


def must_succeed(ranks, code):
    status, output = mpiexec(ranks, code)
    assert status == 0 and output.count("done") == 1, output


@needs_mpi
def test_two_ranks_train_as_one(tmp_path):
    pytest.importorskip("safetensors")
    calls = "as_one_process()", "bits(1, 2)", "errors()", "steers()", "diverged()", "interrupted_elsewhere()"
    must_succeed(2, "\n".join([*calls, f"checkpoints({str(tmp_path)!r}, 1, 2)"]))


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("how", ["bits", "messages"])
def test_one_to_four_ranks_give_the_same_bits(how):
    must_succeed(4, f"{how}(1, 2, 3, 4)")


@needs_mpi
@pytest.mark.slow
def test_four_ranks_end_together_and_go_on_by_any_number(tmp_path):
    pytest.importorskip("safetensors")
    calls = "errors()", "steers()", "diverged()", "interrupted_elsewhere()"
    must_succeed(4, "\n".join([*calls, f"checkpoints({str(tmp_path)!r}, 1, 2, 4)"]))


@needs_mpi
@pytest.mark.slow
@pytest.mark.parametrize("how", ["fail_unseen", "die"])
def test_no_rank_waits_for_one_that_is_gone(how):
    status, output = mpiexec(2, f"{how}()")
    assert status != 0 and "done" not in output
    assert how == "die" or ("LookupError: broken" in output and "rank 1 of 2 ends all" in output)


def test_what_is_missing_is_named(monkeypatch):
    from fastnn import mpi

    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match=r"fastnn\.mpi needs mpi4py .+: pip install 'fastnn-numba\[mpi\]'"):
        mpi.fit(fastnn.Sequential([fastnn.Dense(1)]), [[1.0]], [1.0])


def test_the_tree_is_the_same_whoever_holds_the_shards():
    def tree(size, shards=16):
        parts = {}
        for rank in range(size):
            held = range(*backends.limits(shards, rank, size))
            own = nodes(shards, held)
            assert [shard for low, high in own for shard in range(low, high)] == list(held)
            for low, high in own:
                leaves = {(shard, shard + 1): str(shard) for shard in range(low, high)}
                # the shards of a node are consecutive, from a multiple of their number on
                inside = {(key[0] - low, key[1] - low): value for key, value in leaves.items()}
                parts[low, high] = tree_sum(inside, "({} {})".format)
        return tree_sum(parts, "({} {})".format)

    right = tree(1)
    assert right.startswith("((((0 1) (2 3)) ((4 5) (6 7)))")
    assert all(tree(size) == right for size in (2, 3, 4, 5, 7, 16))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_ranks_update_all_parameters_by_their_shares(size):
    layers = [fastnn.Dense(40, "tanh"), fastnn.Dense(3)]  # parts of the parameters are cut along both sides
    whole, shared = (fastnn.Sequential(layers).build(1100) for _ in range(2))
    gradient = np.random.default_rng(0).normal(size=whole.parameters.shape).astype(np.float32)
    whole.apply_gradient(gradient, fastnn.SGD(0.1, momentum=0.9), l2=0.01)
    state, rule = shared.state, backends.RULES["momentum"]
    for rank in range(size):
        plan = backends.make_plan("cpu", "float32", shared.program, state.parameters, 1, backends.APPLY, 1, state)
        plan.leave_share(rank, size)
        plan.bind_rule(rule, {"momentum": 0.9}, l2=0.01)
        plan.bind_steps(np.array([0.1]))
        plan.bind_gradient(gradient.copy())
        before = state.parameters.copy()
        plan.execute()
        changed = np.zeros(before.shape, bool)
        for part in shared.program.share(rank, size):
            changed[part] = True
        assert np.array_equal(changed, state.parameters != before)
    assert np.array_equal(shared.parameters, whole.parameters)
    assert np.array_equal(shared.state.moments[0], whole.state.moments[0])


def blocks():
    """The Python blocks of docs/mpi.md."""
    page = Path(__file__).parents[1] / "docs" / "mpi.md"
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@needs_mpi
@pytest.mark.slow
def test_the_program_of_the_page_runs(tmp_path):
    (tmp_path / "train.py").write_text(blocks()[0], encoding="utf-8")
    output = run([*START, "2", sys.executable, "-m", "mpi4py", tmp_path / "train.py"])
    loss, held_out = map(float, re.fullmatch(r"loss ([\d.]+), validation loss ([\d.]+)\n", output[1]).groups())
    assert output[0] == 0 and loss < 0.4 and held_out < 0.4


@pytest.mark.slow
def test_a_search_on_workers_of_dask(tmp_path):
    """Estimators and nets come back from other processes with the bits that they have here."""
    pytest.importorskip("sklearn")
    pytest.importorskip("distributed")
    (tmp_path / "search.py").write_text(
        "if __name__ == '__main__':\n" + textwrap.indent(blocks()[1] + SAME_HERE, "    "), encoding="utf-8"
    )
    status, output = run([sys.executable, tmp_path / "search.py"])
    assert status == 0 and re.search(r"^\{'learning_rate_init': 0\.0[13]\} 0\.[89]\d\nsame$", output, re.MULTILINE), (
        output
    )


SAME_HERE = """
from sklearn.base import clone
here = clone(search.best_estimator_).fit(X, y)
assert (here.predict_proba(X) == search.best_estimator_.predict_proba(X)).all()
print("same")
"""
