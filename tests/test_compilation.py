"""What is compiled, when, and where it is kept."""

import os
import subprocess
import sys

import numpy as np
import pytest
from nets import OPTIMIZERS, data, pair
from numba.core import event

import fastnn
from fastnn.kernels import cache


def python(code, **environment):
    """Output of a fresh process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {name: str(value) for name, value in environment.items()},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_compilation_serves_every_net(dtype):
    fastnn.warmup(dtype)
    with event.install_recorder("numba:compile") as recorder:
        for i, (make, _) in enumerate(OPTIMIZERS.values()):
            net, _, _ = pair((5, 3 + i, 3), ("gelu", "softmax"), dtype=dtype)
            X, y = data(30 + i)
            y = np.eye(3)[y] if i % 2 else y
            net.fit(X, y, optimizer=make(), epochs=2, batch_size=7, validation_data=(X, y), threads=1 + i % 3)
        for loss, last in (("binary_cross_entropy", "sigmoid"), ("mae", "elu"), ("huber", "linear")):
            net, _, _ = pair(activations=("relu", "silu", last), loss=loss, dtype=dtype)
            X, y = data(loss=loss)
            net.fit(X, y, epochs=2, sample_weight=np.ones(len(X)), l2=0.1, threads=2)
        X = np.asfortranarray(X.astype(dtype))
        X.flags.writeable = False
        frozen = net.freeze()
        for view in (X, X[::2], X[::-1], X[:3], X[:6:2], X[5:2:-1], X[:1]):
            net.predict(view)
            fastnn.apply(frozen, view, np.empty((len(view), 3), dtype, order="F"))
        fastnn.apply(frozen, X[0], np.empty(6, dtype)[::2])
        net.evaluate(X, y)
        net.loss_and_gradient(X, y)
        net.input_gradient(X, y)
    assert not recorder.buffer


UPDATE = """
import numpy as np
from numba.core import event
from fastnn.kernels import cpu
theta = np.ones(5)
with event.install_recorder("numba:compile") as recorder:
    cpu.sgd_update(theta, np.ones(5), 0.25, 0.0)
assert (theta == 0.75).all()
print(len(recorder.buffer) > 0)
"""


def test_a_second_process_finds_the_compiled_kernel(tmp_path):
    cache = tmp_path / "cache"
    assert python(UPDATE, FASTNN_CACHE_DIR=cache) == "True\n"
    files = list(cache.iterdir())
    assert len(files) == 1
    assert python(UPDATE, FASTNN_CACHE_DIR=cache) == "False\n"
    assert list(cache.iterdir()) == files


def test_without_a_place_for_the_cache_all_works(tmp_path):
    file = tmp_path / "a file"
    file.write_text("no folder")
    assert python(UPDATE, FASTNN_CACHE_DIR=file / "cache") == "True\n"


def test_another_instruction_set_has_a_cache_of_its_own(tmp_path):
    python(UPDATE, FASTNN_CACHE_DIR=tmp_path)
    generic = dict(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert python(UPDATE, FASTNN_CACHE_DIR=tmp_path, **generic) == "True\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_versions_are_shown(capsys):
    fastnn.show_versions()
    shown = capsys.readouterr().out
    for part in ("fastnn", fastnn.__version__, "numpy", np.__version__, "numba"):
        assert part in shown


def test_warmup_takes_both_dtypes_and_refuses_others():
    fastnn.warmup()
    with pytest.raises(ValueError, match="dtype must .+; got 'float16'"):
        fastnn.warmup("float16")


READY = """
import numpy as np
import fastnn
from numba.core import event
with event.install_recorder("numba:compile") as recorder:
    net = fastnn.Sequential([fastnn.Dense(3)])
    net.fit(np.zeros((20, 2)), np.zeros((20, 3)), epochs=1)
    net.predict(np.zeros((20, 2)))
    net.predict(np.zeros((1, 2)))
print(len(recorder.buffer))
"""


def test_the_command_line_fills_the_cache():
    # from a cache that is full already, so that nothing is compiled here
    run = [sys.executable, "-m", "fastnn", "warmup", "--dtype", "float32"]
    shown = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(cache.cache_folder())
    assert python(READY) == "0\n"
