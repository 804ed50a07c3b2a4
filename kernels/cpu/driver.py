"""Runs a plan: the leader in this thread, helpers in threads that live as long as the call.

No pool outlives a call, so there is nothing that a fork could break or that two Python threads could enter at once.
A helper that comes late, or never, only means that the leader does more blocks itself.
"""

import _thread
import threading

from .. import plan as _plan
from ..annotations import Floats
from ..options import VECTORS, lanes
from .training import run

LOOK = 0.1  # seconds: on Windows Ctrl-C does not end a wait without a limit


def make_plan(
    layout: _plan.Layout, theta: Floats, batch: int, threads: int, gradient: bool = False, drops: bool = False
) -> _plan.Plan:
    """A plan for rows of `batch` at a time on this machine.

    Parameters
    ----------
    layout : plan.Layout
        The net.
    theta : array (layout.size,), float32 or float64
        The flat parameters.
    batch : int
        Most rows in one step.
    threads : int
        Threads that may take part.
    gradient : bool
        Whether gradients are wanted.
    drops : bool
        Whether the inputs of layers are dropped as the layout says.

    Returns
    -------
    plan.Plan
        The tables; name the rows with `data`, the task with `set`.
    """
    width = lanes(8 * theta.itemsize)
    return _plan.Plan(layout, theta, batch, width, VECTORS * width, threads, gradient, drops)


def execute(plan: _plan.Plan) -> None:
    """Carry out a plan; its status and counters then stand in its table.

    Parameters
    ----------
    plan : plan.Plan
        From `make_plan`.
    """
    arguments = (plan.table, plan.reals, plan.theta)
    plan.set(TICKET=0)
    homes = []
    try:
        try:
            for thread in range(1, plan.threads):
                homes.append(_start_helper(arguments, thread))
        except RuntimeError:
            pass  # no more threads in this process: those that there are do the work
        run(*arguments, 0)
    finally:
        plan.set(TICKET=_plan.NOBODY)
        for home in homes:
            home.acquire()


def execute_interruptibly(plan: _plan.Plan) -> None:
    """`execute` for a plan of long steps: Ctrl-C stops it before its next block, with no update begun.

    Parameters
    ----------
    plan : plan.Plan
        From `make_plan`.
    """
    start, ended, failure = _thread.allocate_lock(), threading.Event(), []

    def lead():
        if start.acquire(blocking=False):  # else it was called off before it began
            try:
                execute(plan)
            except BaseException as error:
                failure.append(error)
            finally:
                ended.set()

    plan.set(STOP=0)
    try:
        try:
            _thread.start_new_thread(lead, ())
        except RuntimeError:  # no more threads in this process
            lead()
        while not ended.wait(LOOK):
            pass
    except BaseException:
        plan.set(STOP=1)
        if not start.acquire(blocking=False):
            _outwait(ended)
        raise
    finally:
        plan.set(STOP=0)
    if failure:
        raise failure[0]


def _outwait(event):
    """Wait for an event that is near, however often Ctrl-C is pressed meanwhile."""
    while not event.is_set():
        try:
            event.wait(LOOK)
        except KeyboardInterrupt:
            continue


def _start_helper(arguments, thread):
    home = _thread.allocate_lock()
    home.acquire()

    def help_out():
        try:
            run(*arguments, thread)
        finally:
            home.release()

    _thread.start_new_thread(help_out, ())
    return home
