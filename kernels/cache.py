"""The disk cache of compiled kernels: one file each, written by atomic rename.

A file holds pickles: who can write it can run code. So it is read only where `ownership.py` finds that nobody else can;
any other folder is as good as none.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import re
import sys
import time
import warnings
from pathlib import Path

import numba

from .options import EXACT, FAST, target
from .ownership import UntrustedError, own_folder, read_own, write_own

try:
    from numba.core.caching import _Cache
    from numba.core.compiler import CompileResult
except ImportError:  # private names of Numba: without them the kernels still work, uncached
    _Cache = None


def _sources_hash():
    """Hash of every kernel source, so that an edit anywhere makes old cache files unreachable; None without sources."""
    digest, paths = hashlib.sha256(), sorted(Path(__file__).parent.rglob("*.py"))
    for path in paths:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest() if paths else None  # none to see in a zip file


# taken at import (1 ms): a file that is changed after it is not what this process runs
SOURCES = _sources_hash()


# Numba's settings that change the code that it makes
SETTINGS = (
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "ENABLE_AVX",
    "DISABLE_INTEL_SVML",
    "DEBUGINFO_DEFAULT",
    "EXTEND_VARIABLE_LIFETIMES",
    "BOUNDSCHECK",
    "DEBUG_NRT",
    "LLVM_REFPRUNE_PASS",
    "LLVM_REFPRUNE_FLAGS",
)
ABANDONED_SECONDS = 3600.0  # after which nobody is still writing a file
_UNFINISHED = re.compile(r".+-[0-9a-f]{16,32}-[0-9a-f]{16}\.tmp")


def cache_folder():
    """Folder of compiled kernels: FASTNN_CACHE_DIR, else the user's cache folder, None for a user without a home."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(os.environ.get("FASTNN_CACHE_DIR") or os.path.join(base, "fastnn"))
    return None if folder.startswith("~") else Path(folder)


def described_folder():
    """The folder, or why there is none, for people."""
    folder = cache_folder()
    if folder is None:
        return "none: no home folder"
    try:
        own_folder(folder)
    except UntrustedError as error:
        return f"none: {error}"
    return str(folder)


def cache_file(name, *key):
    """File of what is compiled for the function `name` and a key that fixes the rest; None where nothing is kept."""
    folder = cache_folder()
    if folder is None or SOURCES is None:
        return None
    settings = [repr(getattr(numba.config, setting, None)) for setting in SETTINGS]  # OPT "max" equals 3
    digest = hashlib.sha256(repr((name, *key, settings, SOURCES, sys.version)).encode())
    return folder / f"{name.rpartition('.')[2]}-{digest.hexdigest()[:32]}.fnc"


def read_cache(path, rebuild):
    """What `rebuild` makes of what was pickled for `write_cache`; None if it is not there, damaged, or not to trust."""
    try:
        content = None if path is None else read_own(path)
        if content is None or hashlib.sha256(content[32:]).digest() != content[:32]:
            return None
        return rebuild(pickle.loads(memoryview(content)[32:]))
    except UntrustedError as error:
        _warn(str(error))
    except Exception:
        pass  # compiled anew
    return None


@functools.cache
def _warn(reason):
    """Tell once why every start compiles."""
    warnings.warn(
        f"compiled kernels are neither read nor kept, because {reason}: "
        "set FASTNN_CACHE_DIR to a folder that only you can write to",
        stacklevel=2,
    )


def write_cache(path, payload):
    """Keep pickles; a full disk or a read-only folder is no error."""
    if path is None:
        return
    try:
        write_own(path, hashlib.sha256(payload).digest() + payload)
        _remove_abandoned(path.parent)
    except OSError:
        return


def _remove_abandoned(folder):
    """Remove what processes that were killed had begun to write."""
    for path in folder.glob("*.tmp"):
        if _UNFINISHED.fullmatch(path.name):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                    path.unlink()


DiskCache = None

if _Cache is not None:

    class DiskCache(_Cache):
        """One file for each (function, signature, CPU, kernel sources, Numba, Python), written by atomic rename.

        Numba's own cache does not see edits in other files, needs a writable source folder, and lets two cold
        processes write the same data file. A file that cannot be read or written here is as good as absent.
        """

        def __init__(self, function):
            self._name = f"{function.__module__}.{function.__qualname__}"

        @property
        def cache_path(self):
            """The folder, as Numba's dispatcher reports it."""
            return str(cache_folder())

        def _path(self, signature):
            sets = sorted(EXACT), sorted(FAST)
            return cache_file(self._name, str(signature), target(), numba.__version__, sets)

        def load_overload(self, sig, target_context):
            """The compiled function for `sig`, or None."""
            target_context.refresh()
            return read_cache(self._path(sig), lambda parts: CompileResult._rebuild(target_context, *parts))

        def save_overload(self, sig, data):
            """Keep a compiled function."""
            if data.library.has_dynamic_globals or data.lifted:
                return
            from numba.core.serialize import dumps

            try:
                payload = dumps(data._reduce())
            except RuntimeError:
                if data.library._compiled_object is not None:
                    raise
                # Ctrl-C came while LLVM handed over the machine code, and its callback swallowed it
                raise KeyboardInterrupt from None
            write_cache(self._path(sig), payload)

        def enable(self):
            """Part of Numba's interface."""

        def disable(self):
            """Part of Numba's interface."""

        def flush(self):
            """Part of Numba's interface."""
