"""Many runs at once: each thread takes a whole net, trains it, judges it, and takes the next.

A net has parameters, state and hyperparameters of its own. What it shares with others, program and rows, stands in a
plan, which each thread has a copy of, with the thread's own working memory. A run here is led by one thread alone, so
it has the bits of the run that trains the net by itself, whichever thread takes it.

Symbols: queue: what the threads share; job: the fields of `Job` of one net; numbers: those of `Number`.
"""

from functools import partial

import numpy as np

from ..annotations import Floats, Integers
from ..compiler import jit
from ..options import EXACT
from ..plan import aligned
from ..program import round_up
from ..sweep import Task
from ..tables import DIVERGED, FINE, Fields, Real, Run
from ..threads import Job as Thread
from ..threads import finish
from .matmul import copy_rows
from .memory import (
    address_of,
    atomic_add,
    call,
    flush_denormals,
    integers_at,
    plain,
    pointer_at,
    restore_float_control,
)
from .own import failure_at
from .updates import addresses_of_rule

Queue = Fields("Queue", "STOP COUNT 8:NEXT 16:DONE 24:END")
Job = Fields(
    "Job",
    """
    RUN RUN_STRIDE REALS THETA PARAMETERS STATE SUMS FIRST_MOMENT SECOND_MOMENT UPDATE PREPARE CLIPS
    EPOCHS STEPS RATES RATES_STRIDE LOSSES FINISHED LAST
    LOSS_RUN LOSS_STRIDE LOSS_REALS VALIDATION OUTPUT_RUN OUTPUT_STRIDE OUTPUT_REALS OUT
    PATIENCE WAIT BEST_EPOCH BEST RESTORED STATUS ENDED DONE FAILURE
    """,
)
Number = Fields("Number", "BEST MIN_DELTA VALIDATION_LOSS")
# Working memory, lent by the thread
_REALS = "SCRATCH", "GRADIENTS", "PARTIALS", "DELTAS", "PART_BUFFER", "TILES"
_POINTERS = dict.fromkeys(_REALS) | dict.fromkeys(("SHARD_LOSSES", "SQUARES"), np.float64)
_POINTERS |= dict.fromkeys(("CODES", "SLOTS", "TOUCHED"), np.int32)


@jit(EXACT)
def _bind(job, run):
    """Name the net of a job in this thread's copy of its plan."""
    run[Run.STATE], run[Run.SUMS], run[Run.CLIPS] = job[Job.STATE], job[Job.SUMS], job[Job.CLIPS]
    run[Run.FIRST_MOMENT], run[Run.SECOND_MOMENT] = job[Job.FIRST_MOMENT], job[Job.SECOND_MOMENT]
    run[Run.UPDATE], run[Run.PREPARE] = job[Job.UPDATE], job[Job.PREPARE]
    run[Run.RATES], run[Run.RATES_STRIDE] = job[Job.RATES], job[Job.RATES_STRIDE]
    run[Run.LOSSES], run[Run.FINISHED] = job[Job.LOSSES], job[Job.FINISHED]


@jit(EXACT)
def _validation_loss(job, theta, numbers, thread):
    """Loss of the held-out rows."""
    run = integers_at(job[Job.LOSS_RUN] + thread * job[Job.LOSS_STRIDE])
    reals = pointer_at(job[Job.LOSS_REALS] + thread * job[Job.LOSS_STRIDE], numbers)
    call(run[Run.ENTRY], (run, reals, theta, job[Job.PARAMETERS], 0))
    if run[Run.FAILURE] != 0:
        job[Job.FAILURE] = run[Run.FAILURE]
    return reals[Real.LAST_LOSS]


@jit(EXACT)
def _has_waited(job, run, theta, numbers, thread):
    """Record the validation loss of an epoch; whether it is time to stop, by the rules of EarlyStopping."""
    epoch, losses = run[Run.FINISHED] - 1, pointer_at(job[Job.LOSSES], numbers)
    value = losses[epoch]
    if job[Job.VALIDATION] != 0:
        value, losses = _validation_loss(job, theta, numbers, thread), pointer_at(job[Job.VALIDATION], numbers)
        losses[epoch] = value
    if job[Job.PATIENCE] == 0:
        return False
    if value < numbers[Number.BEST] - numbers[Number.MIN_DELTA]:
        numbers[Number.BEST], job[Job.BEST_EPOCH], job[Job.WAIT] = value, epoch, 0
        if job[Job.BEST] != 0:
            copy_rows(
                plain(1),
                job[Job.PARAMETERS],
                theta,
                job[Job.PARAMETERS],
                pointer_at(job[Job.BEST], theta),
                job[Job.PARAMETERS],
            )
        return False
    job[Job.WAIT] += 1
    return job[Job.WAIT] >= job[Job.PATIENCE]


@jit(EXACT)
def _restore_best(job, theta):
    """Put the weights of the best epoch back."""
    best = pointer_at(job[Job.BEST], theta)
    for i in range(job[Job.PARAMETERS]):
        if theta[i] != best[i]:
            job[Job.RESTORED] = 1
        theta[i] = best[i]


@jit(EXACT)
def _judge(job, theta, numbers, thread):
    """Loss and outputs of the held-out rows, as far as they are asked for."""
    if job[Job.LOSS_RUN] != 0:
        numbers[Number.VALIDATION_LOSS] = _validation_loss(job, theta, numbers, thread)
    if job[Job.OUTPUT_RUN] != 0:
        run = integers_at(job[Job.OUTPUT_RUN] + thread * job[Job.OUTPUT_STRIDE])
        reals = pointer_at(job[Job.OUTPUT_REALS] + thread * job[Job.OUTPUT_STRIDE], numbers)
        run[Run.OUT] = job[Job.OUT]
        call(run[Run.ENTRY], (run, reals, theta, job[Job.PARAMETERS], 0))
        if run[Run.FAILURE] != 0:
            job[Job.FAILURE] = run[Run.FAILURE]


@jit(EXACT)
def _train(job, theta, numbers, thread):
    """Train a net for its epochs, then judge it."""
    run = integers_at(job[Job.RUN] + thread * job[Job.RUN_STRIDE])
    reals, each = pointer_at(job[Job.REALS], numbers), job[Job.STEPS]
    by_epoch = job[Job.VALIDATION] != 0 or job[Job.PATIENCE] > 0
    rounds, steps = (job[Job.EPOCHS], each) if by_epoch else (1, job[Job.EPOCHS] * each)
    _bind(job, run)
    run[Run.STEPS], ended = steps, job[Job.LAST] != 0
    for _ in range(rounds):
        call(run[Run.ENTRY], (run, reals, theta, job[Job.PARAMETERS], 0))
        job[Job.FINISHED], job[Job.STATUS], job[Job.FAILURE] = run[Run.FINISHED], run[Run.STATUS], run[Run.FAILURE]
        if run[Run.STATUS] != FINE:
            job[Job.DONE] = 1
            return
        if run[Run.STOP] | run[Run.FAILURE] != 0:
            return
        run[Run.RATES] += 8 * steps * run[Run.RATES_STRIDE]
        if by_epoch and _has_waited(job, run, theta, numbers, thread):
            ended = True
            break
    if ended and job[Job.BEST] != 0 and job[Job.BEST_EPOCH] >= 0:
        _restore_best(job, theta)
    job[Job.ENDED] = ended
    _judge(job, theta, numbers, thread)
    job[Job.DONE] = run[Run.STOP] | job[Job.FAILURE] == 0


@jit(EXACT, public=True)
def sweep(queue: Integers, jobs: Integers, numbers: Floats, like: Floats, thread: int) -> None:
    """Take nets until there are no more, as one of any number of threads.

    Parameters
    ----------
    queue : array (Queue.SIZE,), int64
        The fields of `Queue`.
    jobs : array (nets, Job.SIZE), int64
        The fields of `Job`; progress is written there.
    numbers : array (nets, Number.SIZE), float64
        The fields of `Number`.
    like : array of float32 or float64
        Of the dtype of the nets.
    thread : int
        Number of this thread: which copies of the plans it works with.
    """
    q, control = address_of(queue), flush_denormals()
    while q[Queue.STOP] == 0:
        index = atomic_add(q + Queue.NEXT, 1)
        if index >= q[Queue.COUNT]:
            break
        job = address_of(jobs) + index * Job.SIZE
        theta = pointer_at(job[Job.THETA], address_of(like))
        _train(job, theta, address_of(numbers) + index * Number.SIZE, thread)
        atomic_add(q + Queue.DONE, job[Job.DONE])
        if job[Job.FAILURE] != 0:
            q[Queue.STOP] = 1
    restore_float_control(control)


def _address(array):
    return 0 if array is None else array.ctypes.data


def _job(task, places):
    """The fields of `Job` of a task, in their order; `places`: where the copies of each plan stand."""
    state = task.state
    at = [_address(array) for array in (state.parameters, state.table, state.sums, *state.moments)]
    at += [0] * (5 - len(at))
    run, loss_run, output_run = (places[id(plan)] for plan in (task.plan, task.loss_plan, task.output_plan))
    update = addresses_of_rule(task.rule, state.parameters.dtype)
    return (
        *(*run[:2], _address(task.reals), at[0], state.parameters.size, *at[1:], *update, task.clips),
        *(task.epochs_left, task.steps_per_epoch, _address(task.rates), int(len(task.rates) > 1)),
        *(_address(task.losses), task.epochs, task.last),
        *(*loss_run, _address(task.validation), *output_run, _address(task.out)),
        *(task.patience, task.wait, -1 if task.best_epoch is None else task.best_epoch),
        *(_address(task.best_parameters), 0, FINE, 0, 0, 0),
    )


def _record(task, job, numbers):
    """Take down what became of a net."""
    task.epochs, task.done, task.ended = int(job[Job.FINISHED]), bool(job[Job.DONE]), bool(job[Job.ENDED])
    task.wait, task.best = int(job[Job.WAIT]), float(numbers[Number.BEST])
    task.best_epoch = int(job[Job.BEST_EPOCH]) if job[Job.BEST_EPOCH] >= 0 else None
    task.diverged = bool(job[Job.STATUS] == DIVERGED)
    task.validation_loss = float("nan") if task.diverged else float(numbers[Number.VALIDATION_LOSS])
    if task.diverged or job[Job.RESTORED]:
        task.state.forget()


class Sweep:
    """Nets that threads train, each taking whole ones.

    Parameters
    ----------
    tasks : sequence of Task
        Nets of one dtype, with what they are to do next.
    threads : int
        Threads that take them.
    """

    def __init__(self, tasks: list[Task], threads: int) -> None:
        self._tasks, threads = tasks, max(1, min(threads, len(tasks)))
        plans = {id(plan): plan for task in tasks for plan in (task.plan, task.loss_plan, task.output_plan) if plan}
        self._like = tasks[0].state.parameters
        self._work_in(plans.values(), threads)
        self._copies = {key: self._copied(plan) for key, plan in plans.items()}
        places = {id(None): (0, 0, 0)}  # of the first copy of a plan: address, bytes to the next, address of the reals
        for key, (rows, size) in self._copies.items():
            places[key] = _address(rows), rows.strides[0], _address(rows) + 8 * size
        self._jobs = np.array([_job(task, places) for task in tasks], np.int64)
        self._numbers = np.array([(task.best, task.min_delta, np.nan) for task in tasks])
        self._queue = aligned(Queue.SIZE, np.int64)
        self._queue[Queue.COUNT] = len(tasks)
        arguments = self._queue, self._jobs, self._numbers, self._like
        sweep(np.zeros(Queue.SIZE, np.int64), *arguments[1:], 0)  # compiled here, where Ctrl-C does no harm
        self._threads = [Thread(partial(sweep, *arguments, thread)) for thread in range(threads)]

    def _work_in(self, plans, threads):
        """Make the working memory of each thread: the most that a plan needs of each kind."""
        sizes: dict[str, int] = {}
        for plan in plans:
            for name in _POINTERS:
                if name in plan.kept:
                    sizes[name] = max(sizes.get(name, 0), plan.kept[name].size)
        dtypes = {name: _POINTERS[name] or self._like.dtype for name in sizes}
        self._memory = [{name: aligned(sizes[name], dtypes[name]) for name in sizes} for _ in range(threads)]

    def _copied(self, plan):
        """A copy of a plan's tables for each thread, a row each: the integers, then the reals."""
        size = plan.table.size
        rows = aligned(len(self._memory) * round_up(size + plan.reals.size, 8), np.int64).reshape(len(self._memory), -1)
        for row, memory in zip(rows, self._memory, strict=True):
            row[:size] = plan.table
            row[size : size + plan.reals.size] = plan.reals.view(np.int64)
            for name, array in memory.items():
                if name in plan.kept:
                    row[getattr(Run, name)] = array.ctypes.data
        return rows, size

    def start(self) -> None:
        """Let the threads begin."""
        for thread in self._threads:
            try:
                thread.start()
            except (RuntimeError, MemoryError):  # no more threads in this process: who waits does the work
                break

    @property
    def done(self) -> int:
        """Nets that were trained so far."""
        return int(self._queue[Queue.DONE])

    def wait(self) -> bool:
        """Wait for a tenth of a second, or to the end; gives whether that has come."""
        return all(thread.look() for thread in self._threads)

    def stop(self) -> None:
        """Let every net end before its next block of samples."""
        self._queue[Queue.STOP] = 1
        for rows, _ in self._copies.values():
            rows[:, Run.STOP] = 1

    def finish(self) -> None:
        """Wait for the end, after `wait` or `stop`, and record what became of the nets."""
        finish(self._threads, stop=self.stop)
        for task, job, numbers in zip(self._tasks, self._jobs, self._numbers, strict=True):
            _record(task, job, numbers)

    def check(self) -> None:
        """Raise what a function of the user's own raised."""
        for failure in (thread.failure for thread in self._threads):
            if failure is not None:
                raise failure
        for failure in self._jobs[:, Job.FAILURE]:
            if failure:
                raise failure_at(int(failure))
