"""What kernels take and give, for type checkers."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 or float64
Integers = NDArray[np.int64]
Codes = NDArray[np.int32]
Stream = Any  # of Numba, CuPy or PyTorch, or the address of one of CUDA's


class DeviceArray(Protocol):
    """What an array in the memory of a GPU has."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where it stands, and what it holds."""
        ...
