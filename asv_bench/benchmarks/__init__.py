"""Imported in each process before the benchmarks: one thread, and caches that no other source can fill."""

import hashlib
import os
from importlib.util import find_spec
from pathlib import Path


def _source_state():
    """Hash of the installed sources; asv's own ASV_COMMIT is missing with --python=same and wrong with -j."""
    package = Path(find_spec("fastnn").origin).parent
    kernels = package / "kernels"
    if not kernels.is_dir():  # an editable install leaves them where the repository has them
        kernels = package.parent / "kernels"
    digest = hashlib.sha256()
    for file in sorted({*package.rglob("*.py"), *kernels.rglob("*.py")}):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


_cache = Path(__file__).resolve().parents[1] / ".numba_cache" / _source_state()
os.environ["NUMBA_CACHE_DIR"] = str(_cache)
os.environ["FASTNN_CACHE_DIR"] = str(_cache / "fastnn")
for _name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
