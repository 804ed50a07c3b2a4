"""The progress bar: tqdm where it is wanted, nothing where it is not."""

from .errors import must_be


class Silent:
    """No bar."""

    def update(self, epochs, loss):
        """Ignore."""

    def close(self):
        """Ignore."""


class Bar:
    """A tqdm bar over epochs, with the last loss."""

    def __init__(self, epochs):
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs tqdm: pip install 'fastnn[progress]'") from None
        self._bar = tqdm(total=epochs, unit="epoch", dynamic_ncols=True)

    def update(self, epochs, loss):
        """Show that `epochs` are done, the last with `loss`."""
        if epochs > self._bar.n:
            self._bar.set_postfix(loss=f"{loss:.5g}", refresh=False)
            self._bar.update(epochs - self._bar.n)

    def close(self):
        """Leave the bar as it stands."""
        self._bar.close()


def make(progress, epochs):
    """The bar for `progress` (a bool)."""
    if not isinstance(progress, bool):
        raise must_be("progress", "a bool", progress, TypeError)
    return Bar(epochs) if progress else Silent()
