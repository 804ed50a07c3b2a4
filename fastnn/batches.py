"""Training data that come batch by batch, from any iterable."""

from .errors import described, must_be


def given(X, y):
    """Whether X is to be passed over, batch by batch: without y, and if it neither is an array nor becomes one."""
    return y is None and not (hasattr(X, "shape") or hasattr(X, "__array__"))


class Batches:
    """Passes over an iterable, the first batch of the first one known beforehand.

    Parameters
    ----------
    source : iterable
        Of (X, y) or (X, y, sample_weight).
    check : callable
        Checked data from (X, y, sample_weight, name of the batch).

    Attributes
    ----------
    first : tuple
        Checked data of the first batch.
    once : bool
        Whether there is one pass only.
    """

    def __init__(self, source, check):
        accepted = "an array, with y, or an iterable of batches (X, y) or (X, y, sample_weight)"
        if not hasattr(source, "__iter__") or isinstance(source, str | bytes | dict):
            raise must_be("X", accepted, described(f"a {type(source).__name__}"), TypeError)
        self._source, self._check = source, check
        self._ahead = iter(source)
        self.once = self._ahead is source
        first = next(self._ahead, None)
        if first is None:
            raise must_be("X", "an iterable of at least one batch", described("one that is empty"))
        self.first = self._checked(first, 0)

    def __len__(self):
        """Batches of a pass as the iterable tells, or 0 where it does not."""
        try:
            return len(self._source)
        except TypeError:
            return 0

    def __iter__(self):
        """A pass: checked data of each batch."""
        ahead, first, self._ahead, self.first = self._ahead, self.first, None, None
        if ahead is None:
            ahead, known = iter(self._source), 0
        else:
            yield first
            known = 1
        for number, batch in enumerate(ahead, known):
            yield self._checked(batch, number)

    def _checked(self, batch, number):
        name = f"batch {number}"
        if not isinstance(batch, list | tuple) or len(batch) not in (2, 3):
            shape = f" of shape {tuple(batch.shape)}" if hasattr(batch, "shape") else ""
            size = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
            kind = described(f"a {type(batch).__name__}{size}{shape}")
            raise must_be(name, "(X, y) or (X, y, sample_weight)", kind, TypeError)
        X, y, weight = (*batch, None)[:3]
        return self._check(X, y, weight, f"{name}: ")
