"""Processes of the race: each holds one library on its cores, and answers calls, one JSON line each way.

`Worker` is the racing side; run as a script, this file is the other. No process pool of the standard library: here a
process gets cores and variables of its own before anything is imported, and ends with all that it started.
"""

import contextlib
import functools
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile

SHOWN_ERRORS = 4000  # characters of a failed worker's last words


class LeftOut(Exception):
    """Why a library does not take part."""


class WorkerError(Exception):
    """A worker ended before its time."""


def need(name):
    """The module of that name, or LeftOut."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LeftOut(f"no {name} here ({error})") from None


class Worker:
    """`kind(**arguments)`, a class of one of the modules beside this one, in a process pinned to `cores`.

    As a context manager it ends its process, and all that the process started. Each answer must come within `patience`
    seconds, if that is set.
    """

    def __init__(self, module, kind, cores, patience=None, **arguments):
        self.patience = patience
        self.name = f"{module}.{kind} {' '.join(map(str, arguments.values()))}".rstrip()
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), str(len(cores))
        )
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [sys.executable, __file__, module, kind, json.dumps(cores), json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            # compilation in this process alone, and no process of its own that would race on
            env=os.environ | threads | {"JAX_PLATFORMS": "cpu", "TORCHINDUCTOR_COMPILE_THREADS": "1"},
            start_new_session=True,  # Ctrl-C ends the race, which ends its workers
        )

    @functools.cached_property
    def left_out(self):
        """Why it does not take part, or None; known once it has started, which this waits for."""
        return self._read().get("left_out")

    def call(self, method, *arguments):
        """What the method of that name answers."""
        return calls([self], method, *arguments)[0]

    def ask(self, method, *arguments):
        """Let the method of that name begin, whose answer `answer` waits for."""
        if self.left_out is not None:
            raise WorkerError(f"{self.name} is left out: {self.left_out}")
        try:
            self.process.stdin.write(json.dumps([method, arguments]) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # reading says why

    def answer(self):
        """What the method answers that `ask` has begun."""
        return self._read()["result"]

    def _read(self):
        # one line answers one call, so none can wait in the file's own buffer
        if not select.select([self.process.stdout], [], [], self.patience)[0]:
            raise WorkerError(f"{self.name} gave no answer in {self.patience:.0f} s")
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            words = self.errors.read()[-SHOWN_ERRORS:]
            raise WorkerError(f"{self.name} ended with status {self.process.returncode}:\n{words}")
        return json.loads(line)

    def close(self):
        """End the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            with contextlib.suppress(OSError):
                file.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


def calls(workers, method, *arguments):
    """What the method of that name answers in each worker; all are at work at once."""
    for worker in workers:
        worker.ask(method, *arguments)
    return [worker.answer() for worker in workers]


def serve(module, kind, cores, arguments):
    """The other side: make the object, then answer until the input ends."""
    os.sched_setaffinity(0, json.loads(cores))  # before any library counts the cores
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not look like an answer

    def answer(**message):
        print(json.dumps(message), file=channel, flush=True)

    try:
        target = getattr(importlib.import_module(module), kind)(**json.loads(arguments))
    except LeftOut as reason:
        answer(left_out=str(reason))
        return
    answer()
    for line in sys.stdin:
        method, values = json.loads(line)
        answer(result=getattr(target, method)(*values))


if __name__ == "__main__":
    import workers  # under its own name, so that LeftOut is one class

    workers.serve(*sys.argv[1:])
