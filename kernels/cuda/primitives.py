"""The primitives that kernels are written in: those of the device, or those of the simulator."""

import numpy as np

from .toolchain import SIMULATED, cuda, device

if SIMULATED:
    from .plain import (
        arrive,
        arrive_and_expect,
        atomic_add_release,
        await_copies,
        await_copies_but_two,
        await_phase,
        await_products,
        await_products_but_one,
        bf16_pair,
        close_copies,
        copy1_async,
        copy4_async,
        copy_in_bulk,
        erf,
        exp,
        expm1,
        fma,
        global_at,
        init_barrier,
        lane_at,
        lane_of,
        load4,
        load_acquire,
        log,
        log1p,
        log2_of,
        mma_bf16,
        mma_tf32,
        near_reciprocal,
        near_reciprocal_root,
        opaque,
        outer4,
        peers_of,
        popc,
        publish_barriers,
        quotient,
        shared_address,
        shared_memory,
        sqrt,
        store4,
        store_sums,
        tanh,
        tf32_of,
        turn_by_turn,
        viewed,
        warp_barrier,
        wgmma_bf16,
        wgmma_tf32,
    )
else:
    # these take and give the dtype of their argument: numba-cuda has them call the float32 or float64 function
    from math import erf, exp, expm1, log, log1p, sqrt, tanh

    from .intrinsics import (
        arrive,
        arrive_and_expect,
        atomic_add_release,
        await_copies,
        await_copies_but_two,
        await_phase,
        await_products,
        await_products_but_one,
        bf16_pair,
        close_copies,
        copy1_async,
        copy4_async,
        copy_in_bulk,
        global_at,
        init_barrier,
        load4,
        load_acquire,
        mma_bf16,
        mma_tf32,
        near_reciprocal,
        near_reciprocal_root,
        opaque,
        outer4,
        publish_barriers,
        quotient,
        shared_address,
        shared_memory,
        store4,
        store_sums,
        tf32_of,
        turn_by_turn,
        viewed,
        wgmma_bf16,
        wgmma_tf32,
    )

    @device
    def fma(a, b, c):
        """a b + c, rounded once."""
        return cuda.fma(a, b, c)

    @device
    def lane_of(value, mask):
        """The value of the lane whose number differs from this one's in the bits of `mask`."""
        return cuda.shfl_xor_sync(0xFFFFFFFF, value, mask)

    @device
    def lane_at(value, lane):
        """An integer below 2^31 of a lane of the warp."""
        return np.int64(cuda.shfl_sync(0xFFFFFFFF, np.int32(value), np.int32(lane)))

    @device
    def peers_of(value):
        """The lanes of the warp that have the same integer below 2^31: a bit for each."""
        return np.int64(cuda.match_any_sync(0xFFFFFFFF, np.int32(value))) & 0xFFFFFFFF

    @device
    def log2_of(n):
        """The place of the highest bit of an integer from 1 to 2^31 - 1."""
        return np.int32(31 - cuda.clz(np.int32(n)))

    @device
    def popc(bits):
        """How many bits are set."""
        return np.int64(cuda.popc(bits))

    @device
    def warp_barrier():
        """The lanes of a warp wait for one another, and see what each has written."""
        cuda.syncwarp(0xFFFFFFFF)


@device
def root(x):
    """The square root of a float32 number, rounded to nearest, without a branch: some at once take little longer.

    One step of Heron's method, by the remainder, from an approximation, as in the square root of CUDA's library, which
    branches for numbers that are tiny, zero or infinite.
    """
    tiny = x < np.float32(2.0**-100)
    scaled = x * np.float32(2.0**64) if tiny else x
    inverse = near_reciprocal_root(scaled)
    near = scaled * inverse
    better = fma(fma(-near, near, scaled), np.float32(0.5) * inverse, near)
    better = better * np.float32(2.0**-32) if tiny else better
    return x if x == np.float32(0.0) or x == np.float32(np.inf) else better


@device
def ratio(a, b):
    """a / b of float32 numbers without a branch: rounded to nearest where neither it nor 1 / b is subnormal.

    Of a below 2^-100, whose remainders are subnormal, to 1 ulp.
    """
    inverse = near_reciprocal(b)
    near = a * inverse  # where one of the three is zero or infinite, it is all
    better = fma(inverse, fma(-b, inverse, np.float32(1.0)), inverse)
    first = a * better
    better = fma(better, fma(-b, first, a), first)
    steps = abs(b) >= np.float32(2.0**-126) and abs(b) <= np.float32(2.0**126) and abs(near) < np.float32(np.inf)
    return better if steps else near


@device
def add4(x, y):
    """The sums of two fours of numbers, as `load4` gives them."""
    return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]


@device
def larger(a, b):
    """The larger of two numbers, NaN if one is NaN."""
    return b if b > a or b != b else a


@device
def warp_sum(value):
    """Sum over the 32 lanes of a warp, the same bits in all of them; all must take part."""
    for mask in (16, 8, 4, 2, 1):
        value += lane_of(value, mask)
    return value


@device
def warp_max(value):
    """Largest over the 32 lanes of a warp, NaN if one is NaN; all must take part."""
    for mask in (16, 8, 4, 2, 1):
        value = larger(lane_of(value, mask), value)
    return value


__all__ = [
    "add4",
    "arrive",
    "arrive_and_expect",
    "atomic_add_release",
    "await_copies",
    "await_copies_but_two",
    "await_phase",
    "await_products",
    "await_products_but_one",
    "bf16_pair",
    "close_copies",
    "copy1_async",
    "copy4_async",
    "copy_in_bulk",
    "erf",
    "exp",
    "expm1",
    "global_at",
    "init_barrier",
    "lane_at",
    "lane_of",
    "larger",
    "load4",
    "load_acquire",
    "log",
    "log1p",
    "log2_of",
    "mma_bf16",
    "mma_tf32",
    "near_reciprocal",
    "near_reciprocal_root",
    "opaque",
    "outer4",
    "peers_of",
    "popc",
    "publish_barriers",
    "quotient",
    "ratio",
    "root",
    "shared_address",
    "shared_memory",
    "sqrt",
    "store4",
    "store_sums",
    "tanh",
    "tf32_of",
    "turn_by_turn",
    "viewed",
    "warp_barrier",
    "warp_max",
    "warp_sum",
    "wgmma_bf16",
    "wgmma_tf32",
]
