"""Memory of the device that a plan keeps from run to run, by name, and the copies between it and the host.

Small arrays have a twin in pinned memory of the host, through which they are copied without waiting: what is queued
next on the default stream comes after them. Arrays that are laid out side by side go as one copy.
"""

from types import MappingProxyType

import numpy as np

from .launch import copy_into, empty
from .toolchain import copy_from_device, copy_to_device, pinned, wait_for_default_stream

PINNED = 1 << 20  # bytes up to which an array has a twin (an estimate)
REMEMBERED = 16  # rows of sizes of which it is known how they are fetched (an estimate)
ALIGNED = 256  # bytes at multiples of which arrays stand side by side: those at which the driver puts them


class Memory(dict):
    """From a name to an array of the device.

    Parameters
    ----------
    dtype : dtype
        Of arrays for which no other is named.
    """

    def __init__(self, dtype):
        super().__init__()
        self.dtype = dtype
        self._places, self._twins = {}, {}  # addresses; (array, address) of the host
        self._blocks = {}  # what arrays that stand side by side are parts of
        self._same = {}  # what of a twin stands on the device, where nothing writes to it
        self._fetches = {}  # what `fetch` does for some sizes
        self.moves = 0  # how often an array has been made, or let go of
        self._copying = False  # whether a twin must not be written to until the stream is done

    def reserve(self, name, size, dtype=None):
        """Memory of the device under a name, for `size` numbers at least."""
        if name not in self or self[name].size < size:
            self.forget(name)
            self[name] = empty(max(size, 1), dtype or self.dtype, name)
        return self[name]

    def lay_out(self, **sizes):
        """Memory of the device, and its twins, for arrays side by side, in the place of what had their names.

        Parameters
        ----------
        **sizes : tuple (int, dtype)
            Elements of each, in their order; at least one.
        """
        self.settle()
        starts, end = [], 0
        for size, dtype in sizes.values():
            starts.append(end)
            end += -(-size * np.dtype(dtype).itemsize // ALIGNED) * ALIGNED
        block, twin = empty(end, np.uint8), pinned(end, np.uint8)
        address, twin_address = _address_of(block), twin.ctypes.data
        for (name, (size, dtype)), at in zip(sizes.items(), starts, strict=True):
            self.forget(name)
            part = slice(at, at + size * np.dtype(dtype).itemsize)
            self[name], self._places[name], self._blocks[name] = block[part].view(dtype), address + at, address
            self._twins[name] = twin[part].view(dtype), twin_address + at

    def forget(self, name):
        """Let go of an array."""
        self.moves += 1
        self.written(name)
        for kept in (self, self._places, self._twins, self._blocks):
            kept.pop(name, None)
        self._fetches.clear()

    def address(self, name):
        """Where the device keeps an array."""
        found = self._places.get(name)
        if found is None:
            found = self._places[name] = _address_of(self[name])
        return found

    def twin(self, name):
        """The twin of an array, to be written to and sent."""
        return self._twin(name)[0]

    def settle(self):
        """Wait until twins may be written to."""
        if self._copying:
            self._wait()

    def send(self, first, last):
        """Copy the twins of arrays that are side by side to the device, from the first to the last."""
        (_, start), (twin, end) = self._twins[first], self._twins[last]
        copy_to_device(self._places[first], start, end + twin.nbytes - start)
        self._copying = True

    def upload(self, name, array, stays=False):
        """Copy an array of the host to where the device keeps what has this name.

        Parameters
        ----------
        name : str
            Of the array.
        array : array
            In C order, any shape.
        stays : bool
            Kernels only read it: nothing is copied where the device has the same numbers already.
        """
        size = array.size
        same = self._same.get(name)
        # NaN is the same as NaN
        if same is not None and same.size == size and same.tobytes() == array.tobytes():
            return
        memory = self.reserve(name, size, array.dtype)
        if array.nbytes > PINNED:
            self.written(name)
            copy_into(memory[:size], array.reshape(-1))
            return
        if not size:
            return
        twin, address = self._twin(name)
        self.settle()
        twin[:size] = array.reshape(-1)
        copy_to_device(self.address(name), address, array.nbytes)
        self._copying = True
        self._same[name] = twin[:size] if stays else None

    def written(self, name):
        """Say that a kernel has written to an array: what was copied there is not what stands there."""
        self._same.pop(name, None)

    def fetch(self, wanted, stay=MappingProxyType({})):
        """The first elements of some arrays, on the host, after all that was queued before.

        Parameters
        ----------
        wanted : tuple of (str, int)
            Names of arrays, and numbers of elements; those that are side by side one after the other.
        stay : dict, from str to array
            Those that are going to be copied back where the host has changed them, as `upload` says, and where they
            belong on the host: too large for a twin, they are copied there.

        Returns
        -------
        list of array
            To be read before anything else is copied.
        """
        key = wanted, *stay
        known = self._fetches.get(key)
        if known is None:
            if len(self._fetches) == REMEMBERED:
                self._fetches.clear()
            known = self._fetches[key] = self._copies(wanted, stay)
        copies, same, twins, large = known
        for copy in copies:
            copy_from_device(*copy)
        self._same.update(same)
        found = list(twins)
        for at in large:
            name, size = wanted[at]
            found[at] = stay[name] if name in stay else np.empty(size, self[name].dtype)
            copy_from_device(found[at].ctypes.data, self.address(name), found[at].nbytes)
        self._wait()
        return found

    def _copies(self, wanted, stay):
        """What `fetch` copies, as (target, source, bytes); what then stands on the device, too; twins; the large ones.

        Of each array the part of its twin, or None, and those without one by their places in `wanted`.
        """
        copies, same, twins, large, last = [], {}, [], [], None
        for at, (name, size) in enumerate(wanted):
            nbytes, block = size * self[name].dtype.itemsize, self._blocks.get(name)
            if block is None and nbytes > PINNED:
                twins.append(None)
                large.append(at)
                continue
            (twin, address), place = self._twin(name), self.address(name)
            if block is not None and block == last:
                copies[-1][2] = place + nbytes - copies[-1][1]
            elif nbytes:
                copies.append([address, place, nbytes])
            last = block
            twins.append(twin[:size])
            same[name] = twins[-1] if name in stay else None
        return copies, same, twins, large

    def _wait(self):
        wait_for_default_stream()
        self._copying = False

    def _twin(self, name):
        found = self._twins.get(name)
        if found is None:
            memory = self[name]
            twin = pinned(min(memory.size, PINNED // memory.dtype.itemsize), memory.dtype)
            found = self._twins[name] = twin, twin.ctypes.data
        return found


def _address_of(array):
    facts = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return int(facts["data"][0])
