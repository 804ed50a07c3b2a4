"""Files of the safetensors format: replaced whole or not at all, and trusted in nothing when they are read."""

import contextlib
import errno
import hashlib
import json
import os
import stat

import numpy as np

from . import backends
from .errors import described, must_be

PathLike = str | bytes | os.PathLike[str] | os.PathLike[bytes]

FORMAT = 1
LARGEST_HEADER = 1 << 24  # bytes; as objects of Python they take up to forty times as much
SPARSE_BYTES, SPARSE_SHARE = 1 << 26, 10_000  # a larger file that has more bytes for each one of data is a hole
SETTING = (str, int, float, bool, list, type(None))  # kinds of values of a setting in JSON
_WHOLE = "a whole file that fastnn wrote"
_DTYPES = {
    "BOOL": np.bool_,
    "C64": np.complex64,
    **{f"F{bits}": np.dtype(f"f{bits // 8}") for bits in (16, 32, 64)},
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits // 8}") for kind in "IU" for bits in (8, 16, 32, 64)},
}


def library(wanted_by):
    """The package safetensors."""
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(f"{wanted_by} needs safetensors: {backends.pip_install('checkpoint')}") from None
    return safetensors


def as_text(name, path):
    """A path, as str."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise must_be(name, "a path", path, TypeError) from None
    if "\0" in text:
        raise must_be(name, "a path without null characters", text)
    return text


def check_target(name, path):
    """A path, as str, at which a file can be written."""
    text = as_text(name, path)
    folder = os.path.dirname(os.path.realpath(text))
    if not (os.path.isdir(folder) and os.access(folder, os.W_OK)):
        raise must_be(name, "a path in a folder that exists and can be written to", text)
    if _must_be_file(name, text) and not os.access(text, os.W_OK):
        raise must_be(name, "that of a file that can be written to", text)
    return text


def _must_be_file(name, path):
    """Whether a file stands at a path, or nothing; refuses anything else: to open a pipe would wait for its writer."""
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return False
    if kind != stat.S_IFREG:
        kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
        raise must_be(name, "that of a file", described(f"a {kinds.get(kind, 'device')}: {path}"))
    return True


def write(path, facts, arrays):
    """Put facts and arrays into a file by `replace`.

    Parameters
    ----------
    path : str
        From `check_target`.
    facts : dict
        For JSON.
    arrays : dict
        From str to contiguous arrays, which nobody changes meanwhile: their fingerprint is taken before they are
        written.
    """
    safetensors = library("a file")
    text = json.dumps(facts | {"format": FORMAT})
    data = safetensors.numpy.save(arrays, {"fastnn": text, "sha256": fingerprint(text, arrays)})
    length = int.from_bytes(data[:8], "little")
    if length > LARGEST_HEADER:
        accepted = f"of at most {LARGEST_HEADER:,} bytes (callbacks keep large things as arrays)"
        raise must_be("all but the arrays of a file", accepted, described(f"{length:,} bytes"))
    replace(path, data)


def replace(path, data):
    """Make `data` the content of the file at `path`, which is at any moment the old one or the new one, whole.

    The permissions of what stood there are kept; a new file has those that the umask gives.
    """
    path = os.path.realpath(path)  # a link stays one
    folder, exists = os.path.dirname(path), _must_be_file("path", path)
    temporary = os.path.join(folder, f".fastnn-{os.getpid()}-{os.urandom(8).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            if exists:
                _copy_mode(path, temporary)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    if os.name != "nt":  # the new name must be on the disk, too
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _copy_mode(source, target):
    """Give a file the permissions of another."""
    mode, given = (stat.S_IMODE(os.stat(path).st_mode) for path in (source, target))
    if mode != given:  # not every file system lets them be changed
        os.chmod(target, mode)


@contextlib.contextmanager
def refusing(name, path):
    """What is wrong with the content of a file becomes an error that names the argument and the file."""
    try:
        yield
    except (TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        what = "one too large for the memory" if isinstance(error, MemoryError) else "a damaged one"
        raise must_be(name, _WHOLE, described(f"{what}: {path} ({error or type(error).__name__})")) from error


def read(name, path):
    """Facts and arrays of a file.

    The file is read once into memory, so that nobody can change it between its check and its use. Facts and arrays are
    those of one who may have forged the fingerprint: `must_have` and `must_be_array` check them.

    Parameters
    ----------
    name : str
        The argument that gave the path.
    path : path-like
        The file.

    Returns
    -------
    facts : dict
        From str to what JSON holds.
    arrays : dict
        From str to arrays of their own.
    """
    library("a file")
    text = as_text(name, path)
    with _opened(name, text) as file:
        with refusing(name, text):
            about = _metadata(file)
        if "fastnn" not in about:
            raise must_be(name, _WHOLE, described(f"one of another program: {text}"))
        with refusing(name, text):
            facts = json.loads(about["fastnn"])
            must_have("facts", facts, {"format": int}, others=True)
        if facts["format"] > FORMAT:
            given = f"format {facts['format']}, which a later version of fastnn wrote: {text}"
            raise must_be(name, f"a file of format {FORMAT}", described(given))
        with refusing(name, text):
            file.seek(0)
            arrays = _arrays(file.read(os.fstat(file.fileno()).st_size))
            if facts["format"] != FORMAT or about.get("sha256") != fingerprint(about["fastnn"], arrays):
                raise ValueError("its content does not have its fingerprint")
    return facts, arrays


def _opened(name, path):
    """A file, opened to be read, without a wait should a pipe have taken its place meanwhile."""
    _must_be_file(name, path)
    return open(path, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0)))


def _metadata(file):
    """The metadata in the header of a file, before anything else of it is read."""
    size = os.fstat(file.fileno()).st_size
    if size > SPARSE_BYTES and _is_hole(file.fileno(), size):
        raise ValueError(f"{size:,} bytes, but next to nothing in them")
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= min(size - 8, LARGEST_HEADER):
        raise ValueError("a header of no possible length")
    header = json.loads(file.read(length))
    must_have("header", header, {}, others=True)
    found = header.get("__metadata__", {})
    must_have("metadata", found, dict.fromkeys(found, str) if isinstance(found, dict) else {})
    return found


def _is_hole(handle, size):
    """Whether so little of a file is on the disk that to read it would fill the memory with zeros."""
    found, end = 0, 0
    try:
        while found * SPARSE_SHARE < size:
            start = os.lseek(handle, end, os.SEEK_DATA)
            end = os.lseek(handle, start, os.SEEK_HOLE)
            found += end - start
    except AttributeError:  # Windows does not tell
        return False
    except OSError as error:
        return error.errno == errno.ENXIO  # no more data
    return False


def _arrays(data):
    """The arrays of a whole file."""
    safetensors, found = library("a file"), {}
    try:
        parts = safetensors.deserialize(data)
    except safetensors.SafetensorError as error:
        raise ValueError(error) from None
    for name, part in parts:
        if part["dtype"] not in _DTYPES:
            raise ValueError(f"the array {name!r} is of {part['dtype']}")
        found[name] = np.frombuffer(part["data"], _DTYPES[part["dtype"]]).reshape(part["shape"])
    return found


def fingerprint(text, arrays):
    """Fingerprint of a file's content: it shows damage, and no more, for anybody can make it."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        found.update(f"{name} {arrays[name].dtype} {arrays[name].shape} ".encode())
        found.update(arrays[name].reshape(-1).view(np.uint8))
    return found.hexdigest()


def must_have(what, value, kinds, others=False):
    """Refuse what is not a dict with these keys, each with a value of its kind.

    Parameters
    ----------
    what : str
        Its name in the error.
    value : object
        From JSON.
    kinds : dict
        From each key to a type or a tuple of types; a bool is no int.
    others : bool
        Whether there may be more keys.
    """
    if type(value) is not dict:
        raise must_be(what, "a dict", value, TypeError)
    unlike = kinds.keys() - value.keys() if others else kinds.keys() ^ value.keys()
    if unlike:
        accepted = f"a dict with {', '.join(kinds)}" + (" and more" if others else " alone")
        raise must_be(what, accepted, described(f"one with {', '.join(map(repr, value)) or 'nothing'}"))
    for key, kind in kinds.items():
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if type(value[key]) not in allowed:
            raise must_be(key, " or ".join(one.__name__ for one in allowed), value[key], TypeError)


def must_be_names(what, value):
    """Refuse what is not a list of str."""
    if type(value) is not list or not all(type(name) is str for name in value):
        raise must_be(what, "a list of names", described("another"))


def must_be_array(name, array, shape, dtype):
    """Refuse what is not an array of exactly this shape and dtype."""
    given = f"one of {array.dtype} {array.shape}" if isinstance(array, np.ndarray) else repr(array)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        raise must_be(name, f"an array of {np.dtype(dtype)} {shape}", described(given))
