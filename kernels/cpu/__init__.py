"""The kernels on the CPU; the contract stands in `fastnn.kernels`."""

from . import rng, vmath
from .activations import activation_backward, activation_forward
from .custom import activation_addresses, loss_address
from .dense import dense_backward, dense_forward
from .driver import execute, execute_interruptibly, make_plan
from .dropout import dropout
from .inference import predict_rows
from .losses import loss_backward, loss_forward
from .matmul import matmul, work_size
from .updates import adam_update, momentum_update, rmsprop_update, sgd_update

__all__ = [
    "activation_addresses",
    "activation_backward",
    "activation_forward",
    "adam_update",
    "dense_backward",
    "dense_forward",
    "dropout",
    "execute",
    "execute_interruptibly",
    "loss_address",
    "loss_backward",
    "loss_forward",
    "make_plan",
    "matmul",
    "momentum_update",
    "predict_rows",
    "rmsprop_update",
    "rng",
    "sgd_update",
    "vmath",
    "work_size",
]
