"""The progress bar: tqdm where it is wanted, nothing where it is not."""

import time

from .errors import must_be

REDRAW_SECONDS = 0.2  # between two pictures of the bar: one takes 0.6 ms in a notebook, 0.3 ms in a terminal
FORMAT = "{desc} |{bar}| {elapsed}<{remaining}{postfix}"  # with the postfix it fits into 80 columns with some bar
COMPILING = "{desc} |{bar}| compiling"  # until the first step can run


class Silent:
    """No bar."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def start(self, epochs, samples):
        """Ignore."""

    def update(self, epochs, samples, history):
        """Ignore."""


class Bar:
    """A tqdm bar over epochs, in a terminal or a notebook, with time gone and left, samples/s and the last losses.

    Parameters
    ----------
    epochs : int
        Epochs to do.
    """

    def __init__(self, epochs):
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError("progress=True needs tqdm: pip install 'fastnn[progress]'") from None
        self._epochs, self._next, self._latest = epochs, 0.0, None
        options = dict(bar_format=COMPILING, dynamic_ncols=True, mininterval=0.0, miniters=0)
        self._bar = tqdm(total=epochs, desc=self._epoch(0), **options)

    def __enter__(self):
        return self

    def start(self, epochs, samples):
        """Count from here: neither the epochs of an earlier run nor the time to compile says how much is left."""
        self._bar.bar_format = FORMAT
        self._bar.initial = self._bar.n = self._bar.last_print_n = epochs
        self._bar.unpause()
        self._begin, self._before = time.monotonic(), samples

    def update(self, epochs, samples, history):
        """Show that so many epochs, whole and begun, and samples are done, with the losses of the last whole epoch."""
        now = time.monotonic()
        self._latest = epochs, samples, history, now
        if now >= self._next:
            self._next = now + REDRAW_SECONDS
            self._draw()

    def _draw(self):
        epochs, samples, history, now = self._latest
        rate = (samples - self._before) / max(now - self._begin, 1e-9)
        losses = {"loss": history.loss, "val": history.buffers.validation}
        shown = [f"{name} {values[-1]:.4g}" for name, values in losses.items() if len(values)]
        self._bar.set_postfix_str(", ".join([f"{self._bar.format_sizeof(rate)} samples/s", *shown]), refresh=False)
        self._bar.set_description_str(self._epoch(history.epochs), refresh=False)
        self._bar.update(epochs - self._bar.n)

    def _epoch(self, done):
        return f"epoch {done:>{len(str(self._epochs))}}/{self._epochs}"

    def __exit__(self, kind, *error):
        """Leave the bar as it stands; a fit that ended early by itself has come to its end."""
        if self._latest is not None:
            self._draw()
        if kind is None:
            self._bar.total = self._bar.n  # a notebook paints a bar red that is not full
        self._bar.close()


def make(progress, epochs):
    """The bar for `progress` (a bool), a context manager."""
    if not isinstance(progress, bool):
        raise must_be("progress", "a bool", progress, TypeError)
    return Bar(epochs) if progress else Silent()
