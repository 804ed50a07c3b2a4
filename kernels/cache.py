"""The disk cache of compiled kernels: one file each, written by atomic rename.

A file holds pickles: whoever can write to the folder can run code, so it must be the user's own.
"""

import hashlib
import os
import pickle
import secrets
import sys
from pathlib import Path

import numba

from .options import EXACT, FAST, target

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


def cache_folder():
    """Folder of compiled kernels: FASTNN_CACHE_DIR, else the user's cache folder, None for a user without a home."""
    chosen = os.environ.get("FASTNN_CACHE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(os.path.join(base, "fastnn"))
    return None if folder.startswith("~") else Path(folder)


def cache_file(name, *key):
    """File of what is compiled for the function `name` and a key that fixes the rest; None where nothing is kept."""
    folder = cache_folder()
    if folder is None or SOURCES is None:
        return None
    digest = hashlib.sha256(repr((name, *key, SOURCES, sys.version)).encode())
    return folder / f"{name.rpartition('.')[2]}-{digest.hexdigest()[:32]}.fnc"


def read_cache(path):
    """What `write_cache` put there; None if it cannot be read or is damaged."""
    try:
        content = b"" if path is None else path.read_bytes()
    except OSError:
        return None
    digest, payload = content[:32], content[32:]
    return payload if hashlib.sha256(payload).digest() == digest else None


def write_cache(path, payload):
    """Keep bytes, by atomic rename; a full disk or a read-only folder is no error."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.stem}-{secrets.token_hex(8)}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError:
        return


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
            payload = read_cache(self._path(sig))
            return None if payload is None else CompileResult._rebuild(target_context, *pickle.loads(payload))

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
