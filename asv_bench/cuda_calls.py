"""What Python does for a call of the CUDA backend, over `fake_driver.py`: kernels, and the calls of a tiny net.

python asv_bench/cuda_calls.py             microseconds of each, and its calls of the driver; no GPU, no compiling
python asv_bench/cuda_calls.py predict     those whose names hold one of these texts
"""

import sys
import tempfile
import time

import fake_driver

ROWS, FEATURES, UNITS = 64, 32, 16
LAUNCHES = {"loss_forward": 2, "loss_backward": 2, "dense_backward": 3}  # of those that take more than one
COUNTED = {
    "launches": ["cuLaunchKernelEx"],
    "uploads": ["cuMemcpyHtoD_v2", "cuMemcpyHtoDAsync_v2"],
    "reads": ["cuMemcpyDtoH_v2", "cuMemcpyDtoHAsync_v2"],
    "waits": ["cuStreamSynchronize", "cuCtxSynchronize"],
    "allocations": ["cuMemAlloc_v2", "cuMemAllocAsync", "cuMemHostAlloc"],
}


def kernels():
    """From the name of each public kernel to a call of it, arrays of the device ready."""
    import numpy as np
    from numba import cuda

    from fastnn.kernels import LINEAR, MSE, RELU
    from fastnn.kernels import cuda as k
    from fastnn.kernels.cuda.losses import RESULT

    def zeros(*shape, dtype="float32"):
        return cuda.to_device(np.zeros(shape, dtype))

    X, W, b, dX, dW, db = (zeros(*s) for s in ((ROWS, FEATURES), (UNITS, FEATURES), (UNITS,)) * 2)
    Z, A, dA, dZ, y = (zeros(ROWS, UNITS) for _ in range(5))
    w, result, B = zeros(ROWS), zeros(RESULT), zeros(FEATURES, UNITS)
    v = [zeros(1000) for _ in range(4)]
    codes, two, table, rows = zeros(ROWS, dtype="int32"), zeros(ROWS, 2, dtype="int32"), zeros(10, 8), zeros(ROWS, 8)
    order, found = zeros(ROWS, dtype="int64"), zeros(1024, dtype="int64")
    steps = iter(range(1, 1 << 40))
    return {
        "sgd_update": lambda: k.sgd_update(*v[:2], 0.1, 0.0),
        "momentum_update": lambda: k.momentum_update(*v[:3], 0.1, 0.9, False, 0.0),
        "rmsprop_update": lambda: k.rmsprop_update(*v, 0.1, 0.9, 1e-8, 0.0, 0.0),
        "adagrad_update": lambda: k.adagrad_update(*v[:3], 0.1, 1e-8, 0.0, 0.0, next(steps)),
        "adam_update": lambda: k.adam_update(*v, 0.1, 0.9, 0.999, 1e-8, 0.0, 0.0, next(steps)),
        "activation_forward": lambda: k.activation_forward(RELU, 0.0, Z, A),
        "activation_backward": lambda: k.activation_backward(RELU, 0.0, dA, Z, A, dZ),
        "dense_forward": lambda: k.dense_forward(X, W, b, RELU, 0.0, None, Z, A),
        "dense_backward": lambda: k.dense_backward(dA, Z, A, X, W, RELU, 0.0, None, dX, dW, db),
        "input_gradient": lambda: k.input_gradient(dZ, W, LINEAR, 0.0, None, None, dX),
        "weight_gradient": lambda: k.weight_gradient(dZ, X, None, dW, db),
        "matmul": lambda: k.matmul(X, B, None, Z),
        "loss_forward": lambda: k.loss_forward(MSE, 0.0, Z, y, w, result),
        "loss_backward": lambda: k.loss_backward(MSE, 0.0, Z, y, w, dZ, result),
        "dropout": lambda: k.dropout(0.3, 5, next(steps), 1, 7, Z, A),
        "permutation": lambda: k.permutation(7, next(steps), order),
        "embedding_gather": lambda: k.embedding_gather(codes, table, rows),
        "embedding_sum": lambda: k.embedding_sum(two, table, rows),
        "first_not_finite": lambda: k.first_not_finite(X, found),
        "take_rows": lambda: k.take_rows(X, order, dX),
    }


def nets():
    """From what a user does with a net of two hidden layers of 16, or of 512, by batches of 32, to a call of it."""
    import numpy as np

    import fastnn

    rng = np.random.default_rng(0)
    batches = [(rng.normal(size=(32, 16)).astype(np.float32), rng.integers(0, 10, 32)) for _ in range(2)]
    wide = [np.repeat(X, 32, axis=1) for X, _ in batches]
    net, large = (
        fastnn.Sequential(
            [fastnn.Dense(units, "relu"), fastnn.Dense(units, "relu"), fastnn.Dense(10, "softmax")],
            device="cuda",
            seed=0,
        ).build(units)
        for units in (16, 512)
    )
    adam, turns = fastnn.Adam(1e-3), iter(range(1 << 40))
    batch = lambda: batches[next(turns) % 2]  # noqa: E731, never what is on the device already
    return {
        "predict": lambda: net.predict(batch()[0]),
        "partial_fit": lambda: net.partial_fit(*batch(), adam),
        "evaluate": lambda: net.evaluate(*batch()),
        "predict, large": lambda: large.predict(wide[next(turns) % 2]),
        "100 batches of a stream": lambda: net.fit((batch() for _ in range(100)), None, adam, 1),
    }


def counts(driver, call):
    """How often a call that is repeated calls the driver, by what for."""
    call()
    call()
    driver.fake_reset()
    call()
    return {what: sum(driver.fake_calls(name.encode()) for name in names) for what, names in COUNTED.items()}


def microseconds(call, rounds=7, seconds=0.05):
    """Of a call, the least of some rounds, in time of this process."""
    call()
    start = time.process_time()
    call()
    times = max(1, int(seconds / max(time.process_time() - start, 1e-6)))
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        for _ in range(times):
            call()
        best = min(best, (time.process_time() - start) / times)
    return 1e6 * best


def main(only):
    """Print a table of what was asked for."""
    with tempfile.TemporaryDirectory() as folder:
        driver = fake_driver.load(folder)
        fake_driver.pretend(driver)
        print(f"| Python's share | µs a call | {' | '.join(COUNTED)} |\n|---|--:|{'--:|' * len(COUNTED)}")
        for name, call in (kernels() | nets()).items():
            if not only or any(text in name for text in only):
                found = counts(driver, call)
                print(f"| {name} | {microseconds(call):.1f} | {' | '.join(map(str, found.values()))} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
