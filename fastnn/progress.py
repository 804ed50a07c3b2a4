"""The progress bar: tqdm where it is wanted, nothing where it is not."""

import time

from . import backends
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


class _Drawn:
    """A tqdm bar in a terminal or a notebook, drawn a few times a second."""

    def __init__(self, total, text):
        try:
            from tqdm.auto import tqdm
        except ImportError:
            raise ImportError(f"progress=True needs tqdm: {backends.pip_install('progress')}") from None
        self._next, self._latest = 0.0, None
        options = dict(bar_format=COMPILING, dynamic_ncols=True, mininterval=0.0, miniters=0)
        self._bar = tqdm(total=total, desc=text, **options)

    def __enter__(self):
        return self

    def _start(self, done):
        """Count from here: neither what was done before nor the time to compile says how much is left."""
        self._bar.bar_format = FORMAT
        self._bar.initial = self._bar.n = self._bar.last_print_n = done
        self._bar.unpause()

    def _update(self, *latest):
        self._latest = latest
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + REDRAW_SECONDS
            self._draw()

    def _show(self, text, done, facts):
        self._bar.set_postfix_str(", ".join(facts), refresh=False)
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(done - self._bar.n)

    def __exit__(self, kind, *error):
        """Leave the bar as it stands; what ended early by itself has come to its end."""
        if self._latest is not None:
            self._draw()
        if kind is None:
            self._bar.total = self._bar.n  # a notebook paints a bar red that is not full
        self._bar.close()


class Bar(_Drawn):
    """A bar over epochs, with time gone and left, samples/s and the last losses.

    Parameters
    ----------
    epochs : int
        Epochs to do.
    """

    def __init__(self, epochs):
        self._epochs = epochs
        super().__init__(epochs, _counted("epoch", 0, epochs))

    def start(self, epochs, samples):
        """Count from so many epochs and samples on."""
        self._start(epochs)
        self._begin, self._before = time.monotonic(), samples

    def update(self, epochs, samples, history):
        """Show that so many epochs, whole and begun, and samples are done, with the losses of the last whole epoch."""
        self._update(epochs, samples, history, time.monotonic())

    def _draw(self):
        epochs, samples, history, now = self._latest
        rate = (samples - self._before) / max(now - self._begin, 1e-9)
        losses = {"loss": history.loss, "val": history.buffers.validation}
        shown = [f"{name} {values[-1]:.4g}" for name, values in losses.items() if len(values)]
        facts = [f"{self._bar.format_sizeof(rate)} samples/s", *shown]
        self._show(_counted("epoch", history.epochs, self._epochs), epochs, facts)


class SilentCount:
    """No bar."""

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, done, total, fact):
        """Ignore."""


class Count(_Drawn):
    """A bar over nets, with time gone and left, and a fact about them.

    Parameters
    ----------
    name : str
        What is counted.
    """

    def __init__(self, name):
        self._name, self._begun = name, False
        super().__init__(None, name)

    def update(self, done, total, fact):
        """Show that `done` of `total` are done."""
        if not self._begun:
            self._begun = True
            self._start(0)
        self._update(done, total, fact)

    def _draw(self):
        done, total, fact = self._latest
        self._bar.total = total
        self._show(_counted(self._name, done, total), done, [fact] if fact else [])


def _counted(name, done, total):
    return f"{name} {done:>{len(str(total))}}/{total}"


def make(progress, epochs):
    """The bar for `progress` (a bool), a context manager."""
    return Bar(epochs) if _wanted(progress) else Silent()


def count(progress, name):
    """The bar for `progress` (a bool) that counts something, a context manager."""
    return Count(name) if _wanted(progress) else SilentCount()


def _wanted(progress):
    if not isinstance(progress, bool):
        raise must_be("progress", "a bool", progress, TypeError)
    return progress
