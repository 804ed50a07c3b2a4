"""The kernels on the CPU; the contract stands in `fastnn.kernels`."""

from . import rng, vmath
from .activations import activation_backward, activation_forward
from .apply import apply_rows
from .dense import dense_backward, dense_forward
from .driver import compile_all, make_plan
from .dropout import dropout
from .embedding import embedding_gather, embedding_gradient, embedding_sum
from .link import dtype_of, has_own, join, link, relink
from .losses import loss_backward, loss_forward
from .matmul import matmul, work_size
from .updates import adagrad_update, adam_update, momentum_update, rmsprop_update, sgd_update

__all__ = [
    "activation_backward",
    "activation_forward",
    "adagrad_update",
    "adam_update",
    "apply_rows",
    "compile_all",
    "dense_backward",
    "dense_forward",
    "dropout",
    "dtype_of",
    "embedding_gather",
    "embedding_gradient",
    "embedding_sum",
    "has_own",
    "join",
    "link",
    "loss_backward",
    "loss_forward",
    "make_plan",
    "matmul",
    "momentum_update",
    "relink",
    "rmsprop_update",
    "rng",
    "sgd_update",
    "vmath",
    "work_size",
]
