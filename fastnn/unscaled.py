"""A warning before a fit on features so large that a net cannot learn from them, such as ids or years in seconds."""

import warnings

import numpy as np

from .errors import UnscaledWarning, users_level

ROWS, MOST_NUMBERS = 256, 1 << 18  # that are looked at
LARGE = 1e4  # median size that is warned of (an estimate): pixels, ages and percentages are smaller, ids larger


def warn(net, rows):
    """Warn of the first feature whose numbers are large, where nothing scales them.

    Parameters
    ----------
    net : Sequential
        Only one that was not trained before is warned of.
    rows : Data
        To be trained on; those on a GPU are not looked at.
    """
    if net.n_features is not None or net.standardize or net.columns is not None or type(rows.X) is not np.ndarray:
        return
    count = min(len(rows), ROWS, max(4, MOST_NUMBERS // rows.X.shape[1]))
    places = np.linspace(0, len(rows) - 1, count).astype(np.int64)
    sizes = np.median(abs(rows.X[places if rows.rows is None else rows.rows[places]]), axis=0)
    if sizes.max() < LARGE:
        return
    feature = int(np.argmax(sizes >= LARGE))
    name = f"feature {feature}" if rows.columns is None else f"column {rows.columns[feature]!r}"
    message = (
        f"the numbers of {name} are large, about {sizes[feature]:.3g}: a net learns little from them as they are. "
        "standardize=True scales all features; fastnn.Columns also takes ids, as codes"
    )
    warnings.warn(message, UnscaledWarning, stacklevel=users_level())
