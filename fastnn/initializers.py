"""Starting values of weights and biases, by name."""

import numpy as np

# standard deviation, or half width of the interval, from (n_in, n_out)
_SCALES = {
    "zeros": lambda n_in, n_out: 0.0,
    "normal": lambda n_in, n_out: 0.01,
    "uniform": lambda n_in, n_out: 0.05,
    "glorot_normal": lambda n_in, n_out: np.sqrt(2 / (n_in + n_out)),
    "glorot_uniform": lambda n_in, n_out: np.sqrt(6 / (n_in + n_out)),
    "he_normal": lambda n_in, n_out: np.sqrt(2 / n_in),
    "he_uniform": lambda n_in, n_out: np.sqrt(6 / n_in),
    "lecun_normal": lambda n_in, n_out: np.sqrt(1 / n_in),
    "lecun_uniform": lambda n_in, n_out: np.sqrt(3 / n_in),
}
NAMES = tuple(_SCALES)
DEFAULT = "glorot_uniform"  # of weights, by held-out scores on twelve tables: docs/defaults.md


def initialize(name, n_in, n_out, shape, rng):
    """Draw starting values.

    Parameters
    ----------
    name : str
        One of NAMES: Glorot and Bengio 2010, He et al. 2015, LeCun et al. 1998; `normal` has a standard deviation of
        0.01, `uniform` the interval [-0.05, 0.05].
    n_in, n_out : int
        Inputs and outputs of the layer.
    shape : tuple of int
        Shape of the array.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    array, float64
        The values.
    """
    scale = _SCALES[name](n_in, n_out)
    if name.endswith("uniform"):
        return rng.uniform(-scale, scale, shape)
    return scale * rng.standard_normal(shape)
