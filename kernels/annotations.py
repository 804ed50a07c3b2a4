"""What kernels take and give, for type checkers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 or float64
Integers = NDArray[np.int64]
