"""Memory of the device that a plan keeps from run to run, by name, and the copies between it and the host.

Small arrays have a twin in pinned memory of the host, through which they are copied without waiting: what is queued
next on the default stream comes after them.
"""

from .launch import copy_into, empty, to_host
from .toolchain import SIMULATED, copy_from_device, copy_to_device, cuda, wait_for_default_stream

PINNED = 1 << 20  # bytes up to which an array has a twin (an estimate)


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
        self._same = {}  # how many elements of the twin stand on the device, where nothing writes to them
        self._copying = set()  # names whose twin must not be written to until the stream is done

    def reserve(self, name, size, dtype=None):
        """Memory of the device under a name, for `size` numbers at least."""
        if name not in self or self[name].size < size:
            self.forget(name)
            self[name] = empty(max(size, 1), dtype or self.dtype, name)
        return self[name]

    def forget(self, name):
        """Let go of an array."""
        self.written(name)
        for kept in (self, self._places, self._twins):
            kept.pop(name, None)

    def address(self, name):
        """Where the device keeps an array."""
        found = self._places.get(name)
        if found is None:
            array = self[name]
            facts = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
            found = self._places[name] = int(facts["data"][0])
        return found

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
        memory = self.reserve(name, size, array.dtype)
        if SIMULATED or array.nbytes > PINNED:
            self.written(name)
            copy_into(memory[:size], array.reshape(-1))
            return
        if not size:
            return
        flat, (twin, address) = array.reshape(-1), self._twin(name)
        twin = twin[:size]
        if self._same.get(name, 0) >= size and twin.tobytes() == flat.tobytes():  # NaN is the same as NaN
            return
        if name in self._copying:
            self._wait()
        twin[...] = flat
        copy_to_device(self.address(name), address, array.nbytes)
        self._copying.add(name)
        self._same[name] = size if stays else 0

    def written(self, name):
        """Say that a kernel has written to an array: what was copied there is not what stands there."""
        self._same.pop(name, None)

    def fetch(self, stays=False, **sizes):
        """The first elements of some arrays, on the host, after all that was queued before.

        Parameters
        ----------
        stays : bool
            They are going to be copied back where the host has changed them, as `upload` says.
        **sizes : int
            From the names of arrays to numbers of elements.

        Returns
        -------
        list of array
            To be read before anything else is copied.
        """
        if SIMULATED:
            return [self[name][:size].copy() for name, size in sizes.items()]
        found = []
        for name, size in sizes.items():
            nbytes = size * self[name].dtype.itemsize
            if nbytes > PINNED:
                found.append(to_host(self[name][:size]))
                continue
            twin, address = self._twin(name)
            if nbytes:
                copy_from_device(address, self.address(name), nbytes)
            self._same[name] = size if stays else 0
            found.append(twin[:size])
        self._wait()
        return found

    def _wait(self):
        wait_for_default_stream()
        self._copying.clear()

    def _twin(self, name):
        found = self._twins.get(name)
        if found is None:
            memory = self[name]
            twin = cuda.pinned_array(min(memory.size, PINNED // memory.dtype.itemsize), memory.dtype)
            found = self._twins[name] = twin, twin.ctypes.data
        return found
