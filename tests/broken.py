"""Fits that are broken off, and gone on with."""

from nets import data, pair

import fastnn

EPOCHS = 12


class Broken(Exception):
    """What breaks a fit off."""


class Break(fastnn.Callback):
    """Breaks the fit off after an epoch, when the checkpoint has been written."""

    last = True

    def __init__(self, after):
        self.after = after

    def epoch(self, run):
        if run.history.epochs == self.after:
            raise Broken


X, Y = data(60)


def fit(path=None, broken_after=None, epochs=EPOCHS, net=None, callbacks=(), every=1, **changes):
    """(net, history) of a fit that begins, or goes on from the file."""
    net = net or pair()[0]
    callbacks = list(callbacks)
    if path is not None:
        callbacks += [fastnn.Checkpoint(path, every), Break(broken_after)]
    settings = dict(optimizer=fastnn.Adam(0.02), batch_size=7, l2=1e-3, resume=path) | changes
    args = settings.pop("args", (X, Y))
    return net, net.fit(*args, epochs=epochs, callbacks=callbacks, **settings)
