"""A sequence: an append-only run of tokens, whose rows the service keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from passband import errors
from passband.rows import PendingRows, Rows

if TYPE_CHECKING:
    from passband import _core
    from passband.client import Client, Model, Profile


def _ids(tokens: Any) -> Any:
    """Token ids as an array: lists become one, arrays stay what they are."""
    if isinstance(tokens, (list, tuple, range)):
        array = np.asarray(tokens)
        return array.astype(np.int64) if array.size == 0 else array
    return tokens


class Sequence:
    """Made by ``client.open()``, ``fork()`` or ``client.sequence()``. One thread at a time.

    As a context manager it is closed at the end of the block, unless it was sealed: a sealed
    sequence outlives its client, until ``close()`` or its TTL.
    """

    def __init__(self, client: Client, model: Model, id: int, tokens: int, matched: int) -> None:
        self._client = client
        self._lengths = [tokens] * model.layers
        self._closed = False
        self._sealed = False
        self.model = model
        self.id = id
        #: Tokens of a shared prefix whose rows were there at opening.
        self.matched = matched

    # -- writing

    def append(
        self,
        layer: int,
        keys: Any,
        values: Any,
        *,
        first: int | None = None,
        layout: str = "heads_first",
    ) -> int:
        """Sends one layer's new tokens behind the caller's back; returns how many.

        keys, values: ``[kv_heads, tokens, head_dim]``, or ``[tokens, kv_heads, head_dim]`` with
        ``layout="tokens_first"``, of the model's dtype (bf16 as torch.bfloat16, or its bits as
        uint16), on the CPU. They are copied before this returns. ``first`` is the layer's length
        unless it is given. A failure shows in ``flush()`` and in later appends.
        """
        if layout not in ("heads_first", "tokens_first"):
            raise errors.InvalidArgument(f"layout '{layout}': heads_first or tokens_first")
        start = self.length(layer) if first is None else first
        service = self._service()
        count = service.append(
            self.model._native, self.id, layer, start, keys, values, layout == "tokens_first"
        )
        self._lengths[layer] = start + count
        return count

    def flush(self) -> None:
        """Waits until everything appended so far is stored."""
        self._service().flush(self.id)

    def extend(self, first: int, token_ids: Any) -> None:
        """Names appended tokens, so that other sequences find their blocks by prefix."""
        self._service().extend(self.id, first, _ids(token_ids))

    def length(self, layer: int = 0) -> int:
        """Tokens of a layer that were there at opening, or appended through this object."""
        if not 0 <= layer < self.model.layers:
            raise errors.OutOfRange(f"layer {layer} of a model of {self.model.layers}")
        return self._lengths[layer]

    # -- life

    def fork(self, tokens: int | None = None) -> Sequence:
        """A second sequence that shares the first ``tokens`` tokens (all, unless given)."""
        at = min(self._lengths) if tokens is None else tokens
        service = self._service()
        return Sequence(self._client, self.model, service.fork(self.id, at), at, at)

    def truncate(self, tokens: int) -> None:
        """Forgets the tokens from ``tokens`` on."""
        self._service().truncate(self.id, tokens)
        self._lengths = [min(length, tokens) for length in self._lengths]

    def seal(self) -> None:
        """No more appends; the sequence outlives this client."""
        self._service().seal(self.id)
        self._sealed = True

    def pin(self, seconds: float = 0) -> None:
        """Keeps a sealed sequence in RAM for a time (an hour, unless given)."""
        self._service().pin(self.id, seconds)

    def unpin(self) -> None:
        self._service().unpin(self.id)

    def stat(self) -> _core.SequenceStat:
        return self._service().stat(self.id)

    @property
    def sealed(self) -> bool:
        return self._sealed

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Gives the sequence up, here and in the service. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        if not self._client.closed:
            self._client._service.close_sequence(self.id)

    def __enter__(self) -> Sequence:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._sealed or self._closed:
            return
        try:
            self.close()
        except errors.Error:
            if exc[0] is None:
                raise

    # -- reading

    def fetch_async(self, layer: int, tokens: Any, kv_head: int | None = None) -> PendingRows:
        """As ``fetch``, without waiting."""
        service = self._service()
        heads = range(self.model.kv_heads) if kv_head is None else [kv_head]
        wanted = _ids(tokens)
        shape = tuple(getattr(wanted, "shape", ()))
        if len(shape) == 2:
            if kv_head is not None or shape[0] != self.model.kv_heads:
                raise errors.InvalidArray(
                    f"tokens of shape {list(shape)}: [n], or [kv_heads, n] without kv_head"
                )
            groups = [(self.id, layer, head, wanted[head]) for head in heads]
        elif len(shape) == 1:
            groups = [(self.id, layer, head, wanted) for head in heads]
        else:
            raise errors.InvalidArray("tokens: a list or array of token indices is wanted")
        count = int(shape[-1])
        landing = service.fetch(groups, self.model.row_bytes)
        rows = (count, 2, self.model.head_dim)
        return PendingRows(
            landing, rows if kv_head is not None else (len(heads), *rows), self.model.dtype
        )

    def fetch(self, layer: int, tokens: Any, kv_head: int | None = None) -> Rows:
        """Rows by token index, in the order asked for: ``[n, 2, head_dim]`` of one kv head, or
        ``[kv_heads, n, 2, head_dim]`` of all; then tokens may be ``[kv_heads, n]``."""
        return self.fetch_async(layer, tokens, kv_head).wait()

    def read_async(self, layer: int, start: int, stop: int) -> PendingRows:
        """As ``read``, without waiting."""
        if not 0 <= start <= stop:
            raise errors.OutOfRange(f"tokens [{start}, {stop})")
        landing = self._service().read(self.id, layer, start, stop - start)
        shape = (self.model.kv_heads, stop - start, 2, self.model.head_dim)
        return PendingRows(landing, shape, self.model.dtype)

    def read(self, layer: int, start: int, stop: int) -> Rows:
        """The rows of tokens ``[start, stop)``: ``[kv_heads, tokens, 2, head_dim]``."""
        return self.read_async(layer, start, stop).wait()

    def slices(self, layer: int, start: int, stop: int, profile: Profile) -> np.ndarray:
        """Slices of tokens ``[start, stop)``, cut by the service: uint8
        ``[kv_heads, tokens, slice_bytes]``."""
        if not 0 <= start <= stop:
            raise errors.OutOfRange(f"tokens [{start}, {stop})")
        landing = self._service().slices(self.id, layer, start, stop - start, profile._native)
        return landing.numpy().reshape(self.model.kv_heads, stop - start, profile.slice_bytes)

    def _service(self) -> _core.Service:
        if self._closed:
            raise errors.Closed(f"sequence {self.id} is closed")
        return self._client._service

    def __repr__(self) -> str:
        state = "closed" if self._closed else "sealed" if self._sealed else "open"
        return f"<passband.Sequence {self.id} of {self.model.name or 'a model'}, {state}>"
