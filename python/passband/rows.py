"""Rows that came from the service, in the memory they landed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from passband import _core

_NUMPY = {"bf16": np.uint16, "f16": np.float16, "f32": np.float32}


class Rows:
    """Rows ``[K | V]``: an array of ``shape``, ``[..., 2, head_dim]``.

    Nothing is copied: the array is the (registered) memory that the answer landed in, and lives
    as long as anything refers to it. ``torch.from_dlpack(rows)`` and ``np.from_dlpack(rows)``
    (of f16 and f32) take it as it is. NumPy has no bfloat16: ``numpy()`` gives its bits as
    uint16, ``float32()`` a converted copy.
    """

    def __init__(self, landing: _core.Landing, shape: tuple[int, ...], dtype: str) -> None:
        self._landing = landing
        self.shape = shape
        self.dtype = dtype

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape)) * np.dtype(_NUMPY[self.dtype]).itemsize

    def numpy(self) -> np.ndarray:
        """Read-only; bf16 as uint16."""
        return self._landing.numpy().view(_NUMPY[self.dtype]).reshape(self.shape)

    def float32(self) -> np.ndarray:
        """A copy."""
        return self._landing.floats(self.dtype).reshape(self.shape)

    @property
    def keys(self) -> np.ndarray:
        return self.numpy()[..., 0, :]

    @property
    def values(self) -> np.ndarray:
        return self.numpy()[..., 1, :]

    def copy_to(self, out: Any) -> None:
        """Copies into the caller's contiguous array on the CPU, of the same number of bytes."""
        self._landing.copy_to(out)

    def __dlpack__(self, **options: Any) -> Any:
        return self._landing.dlpack(list(self.shape), self.dtype).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)

    def __repr__(self) -> str:
        return f"<passband.Rows {self.dtype} {list(self.shape)}>"


class PendingRows:
    """Rows on their way. Dropping it before they came is harmless."""

    def __init__(self, landing: _core.Landing, shape: tuple[int, ...], dtype: str) -> None:
        self._rows = Rows(landing, shape, dtype)

    def ready(self) -> bool:
        return self._rows._landing.ready()

    def wait(self) -> Rows:
        """Waits within the connection's timeout."""
        self._rows._landing.wait()
        return self._rows
