"""Jobs in threads of their own, and waits for them that end: whatever becomes of a thread, however often Ctrl-C comes.

A thread may come late, or die before it begins, as where memory is short. So whoever begins a job owns it: the thread,
or who waits for it, who then does it, or calls it off.
"""

import _thread
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

try:
    from numba.core.compiler_lock import global_compiler_lock
except ImportError:  # a private name of Numba: without it signals may interrupt a compilation
    global_compiler_lock = None

LOOK_SECONDS = 0.1  # on Windows Ctrl-C does not end a wait without a limit
LATE_LOOKS = 20  # after which a thread that has not begun is not waited for (an estimate)


class Job:
    """A function without arguments, to be called once, by a thread of its own if one can be had.

    Parameters
    ----------
    function : callable
        What is to be done.

    Attributes
    ----------
    result : object
        What it gave.
    failure : BaseException or None
        What it raised.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function, self._owner, self._over, self._running = function, {}, False, _thread.allocate_lock()
        self._looks = 0
        self._running.acquire()
        self.result: Any = None
        self.failure: BaseException | None = None

    def _owned(self):
        """Whether this thread is the first that asked."""
        return self._owner.setdefault("thread", _thread.get_ident()) == _thread.get_ident()

    def start(self) -> None:
        """Let a thread do it; RuntimeError or MemoryError where none can start."""
        _thread.start_new_thread(self._run_apart, ())

    def _run_apart(self):
        sys.settrace(threading.gettrace())  # for coverage and debuggers, which `threading` tells of its threads alone
        self.run()

    def run(self) -> None:
        """Do it in this thread, unless another has begun."""
        if self._owned() and not self._over:
            try:
                self.result = self._function()
            except BaseException as error:
                self.failure = error
            finally:
                self._over = True
                self._running.release()

    def look(self) -> bool:
        """Wait for at most LOOK_SECONDS; whether it is done, by this thread if no other begins in good time."""
        if not self._over and not self._running.acquire(timeout=LOOK_SECONDS):
            self._looks += 1
            if self._looks >= LATE_LOOKS:
                self.run()
        return self._over

    def wait(self) -> None:
        """Wait until it is done, by this thread if no other begins; Ctrl-C ends the wait."""
        while not self.look():
            pass

    def finish(self) -> None:
        """Call it off if it has not begun, else wait for its end."""
        while not self._owned() and not self._over:
            self._running.acquire(timeout=LOOK_SECONDS)


def finish(jobs: Sequence[Job], stop: Callable[[], None]) -> None:
    """Call off the jobs that have not begun, and wait for the others; then raise what signals raised meanwhile.

    Parameters
    ----------
    jobs : sequence of Job
        Started or not.
    stop : callable
        Called before, maybe more than once: to bring their end about soon.
    """
    interrupt, waiting = None, True
    while waiting:
        try:
            stop()
            for job in jobs:
                job.finish()
            waiting = False
        except BaseException as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def apart(function: Callable[[], Any], stop: Callable[[], None] = lambda: None) -> Any:
    """What a function gives, called in a thread of its own, where no signal interrupts it.

    Parameters
    ----------
    function : callable
        Without arguments.
    stop : callable
        Called when Ctrl-C comes, which is raised after the end of the function: to bring that about soon.

    Returns
    -------
    object
        Its result.
    """
    job = Job(function)
    try:
        try:
            job.start()
        except (RuntimeError, MemoryError):  # no more threads in this process
            job.run()
        job.wait()
    except BaseException:
        finish([job], stop)
        raise
    if job.failure is not None:
        raise job.failure
    return job.result


_here = threading.local()


def uninterrupted(function: Callable[[], Any]) -> Any:
    """What a function that compiles gives: Numba and LLVM are left broken by an exception in the middle.

    In the main thread, where the handlers of signals run, a thread of its own calls it.

    Parameters
    ----------
    function : callable
        Without arguments.

    Returns
    -------
    object
        Its result; Ctrl-C is raised when it has ended, by `stop_if_interrupted` or with a result.
    """
    elsewhere = threading.current_thread() is not threading.main_thread()
    # who is compiling already has the lock that another thread would wait for
    if elsewhere or global_compiler_lock is None or global_compiler_lock.is_locked():
        return function()
    stopped = threading.Event()

    def compiling():
        _here.stopped = stopped
        try:
            return function()
        finally:
            del _here.stopped

    return apart(compiling, stop=stopped.set)


def stop_if_interrupted() -> None:
    """End a compilation, at a place where it leaves nothing broken, if Ctrl-C has come."""
    if hasattr(_here, "stopped") and _here.stopped.is_set():
        raise KeyboardInterrupt
