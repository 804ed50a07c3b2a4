"""Arrays in the memory of a GPU: of CuPy, PyTorch, Numba, or of whatever else has `__cuda_array_interface__`.

X is read where it stands. Targets and weights, which are checked one by one, come to the host, and a plan copies them
to the device.
"""

import numpy as np
from numpy.typing import ArrayLike

from . import backends, validation
from .errors import described, must_be

DeviceArray = backends.DeviceArray
AnyArray = ArrayLike | DeviceArray


def on_gpu(value):
    """Whether an array stands in the memory of a GPU, as it says itself: nothing is imported to find out."""
    if type(value) is np.ndarray:
        return False
    try:
        return getattr(value, "__cuda_array_interface__", None) is not None
    except Exception:  # as of a tensor that records gradients; what it is becomes clear when it is read
        return False


def matrix(name, value, dtype, n_features, device, columns=None, finite=True):
    """`validation.matrix`, and for an array of the GPU what plans take there; copied only where it must be.

    A table must have the `columns`, where there are any.
    """
    if type(value) is np.ndarray:
        return validation.matrix(name, value, dtype, n_features, finite)
    if columns is not None:
        validation.check_columns(name, validation.column_names(value), columns)
    if not on_gpu(value):
        return validation.matrix(name, value, dtype, n_features, finite)
    _must_suit(name, value, device)
    facts = value.__cuda_array_interface__
    given, shape = np.dtype(facts["typestr"]), tuple(facts["shape"])
    if not given.isnative or given.kind not in "biuf" or given == np.float16:
        accepted = "an array of float32, float64, bool or integers, in the memory of a GPU"
        raise must_be(name, accepted, described(f"an array of dtype {given}"), TypeError)
    if any(step % given.itemsize for step in facts.get("strides") or ()):
        raise must_be(name, "an array whose elements stand at multiples of their size", described("one between them"))
    validation.check_shape(name, shape, n_features)
    X = backends.device_rows(value, dtype)
    wrong = X.first_not_finite() if finite else None
    if wrong is not None:
        place, number = wrong
        raise validation.not_finite(name, number, place, dtype)
    return X


def host(name, value, device):
    """Targets or weights as they are; those in the memory of a GPU as a copy on the host."""
    if not on_gpu(value):
        return value
    _must_suit(name, value, device)
    return backends.host_copy(value)


def _must_suit(name, value, device):
    if device == "cpu":
        kind = f"{type(value).__module__.partition('.')[0]}.{type(value).__name__}"
        accepted = "an array on the host where device is 'cpu' (copy it there, or make the net with device='cuda')"
        raise must_be(name, accepted, described(f"a {kind} on a GPU"), TypeError)
