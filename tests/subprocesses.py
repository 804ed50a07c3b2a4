"""Processes of their own, with this folder on their path, so that they can call `jobs`."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent
TIMEOUT = 300  # seconds: whoever needs more hangs


def environment(**changes):
    """That of this process, with changes; None takes a variable away."""
    paths = [changes.pop("PYTHONPATH", None), str(TESTS), os.environ.get("PYTHONPATH")]
    changes["PYTHONPATH"] = os.pathsep.join(str(path) for path in paths if path)
    merged = os.environ | {name: None if value is None else str(value) for name, value in changes.items()}
    return {name: value for name, value in merged.items() if value is not None}


def start(code, prefix=(), **changes):
    """A fresh interpreter that runs `code`, every warning an error; use it in a with statement."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-P", "-W", "error", "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**changes),
    )


def finish(child, status=0):
    """What it wrote until its end, which must be with this exit status."""
    try:
        out, err = child.communicate(timeout=TIMEOUT)
    except BaseException:
        child.kill()
        raise
    assert child.returncode == status, f"exit status {child.returncode}\n{out}{err}"
    return out


def python(code, prefix=(), **changes):
    """Output of a fresh interpreter."""
    with start(code, prefix, **changes) as child:
        return finish(child)
