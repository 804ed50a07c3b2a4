"""Many nets in one call, on one thread: 64 nets 64-32-10 that differ in learning rate and starting weights."""

import sweeping

import fastnn

from . import Timed


class Sweep(Timed):
    def make(self):
        if not hasattr(fastnn, "Sweep"):
            raise NotImplementedError("this commit has no fastnn.Sweep")
        made = sweeping.Fastnn("digits", 64)
        self.search(made)
        made.train()
        return made

    def search(self, made):
        made.sweep().fit(made.X, made.y, epochs=9, cv=3, halving=3, threads=1, refit=False)

    def time_train(self):
        """Four epochs, judged on 64 rows."""
        self.ready.train()

    def time_search(self):
        """Three folds; a third of the nets after one epoch, and a ninth after three, go on to nine."""
        self.search(self.ready)
