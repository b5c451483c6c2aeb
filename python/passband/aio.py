"""The client for asyncio: the same calls, awaited, in a pool of a few threads.

    client = await passband.aio.connect("127.0.0.1:50061")
    async with client, await client.open(model, prompt) as sequence:
        rows = await sequence.fetch(0, [3, 17, 42])

The native side releases the GIL, so a waiting call costs a thread of the pool and nothing more;
calls beyond ``threads`` wait for their turn. Cancelling stops waiting, not the call.
"""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, TypeVar

import passband
from passband.client import Client, Model
from passband.rows import Rows
from passband.sequence import Sequence

T = TypeVar("T")


async def _run(pool: ThreadPoolExecutor, call: Callable[..., T], *args: Any, **options: Any) -> T:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(pool, functools.partial(call, *args, **options))


class AsyncSequence:
    """A ``Sequence`` whose calls are awaited. One task at a time."""

    def __init__(self, client: AsyncClient, sequence: Sequence) -> None:
        self._client = client
        #: The same sequence for synchronous code.
        self.sync = sequence

    @property
    def id(self) -> int:
        return self.sync.id

    @property
    def matched(self) -> int:
        return self.sync.matched

    @property
    def model(self) -> Model:
        return self.sync.model

    def length(self, layer: int = 0) -> int:
        return self.sync.length(layer)

    async def append(self, layer: int, keys: Any, values: Any, **options: Any) -> int:
        return await self._call(self.sync.append, layer, keys, values, **options)

    async def flush(self) -> None:
        await self._call(self.sync.flush)

    async def extend(self, first: int, token_ids: Any) -> None:
        await self._call(self.sync.extend, first, token_ids)

    async def fork(self, tokens: int | None = None) -> AsyncSequence:
        return AsyncSequence(self._client, await self._call(self.sync.fork, tokens))

    async def truncate(self, tokens: int) -> None:
        await self._call(self.sync.truncate, tokens)

    async def seal(self) -> None:
        await self._call(self.sync.seal)

    async def stat(self) -> Any:
        return await self._call(self.sync.stat)

    async def fetch(self, layer: int, tokens: Any, kv_head: int | None = None) -> Rows:
        return await self._call(self.sync.fetch, layer, tokens, kv_head)

    async def read(self, layer: int, start: int, stop: int) -> Rows:
        return await self._call(self.sync.read, layer, start, stop)

    async def slices(self, layer: int, start: int, stop: int, profile: passband.Profile) -> Any:
        return await self._call(self.sync.slices, layer, start, stop, profile)

    async def close(self) -> None:
        await self._call(self.sync.close)

    async def __aenter__(self) -> AsyncSequence:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._call(self.sync.__exit__, *exc)

    async def _call(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        return await _run(self._client._pool, call, *args, **options)


class AsyncClient:
    """A ``Client`` whose calls are awaited. Tasks may share it."""

    def __init__(self, client: Client, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        #: The same client for synchronous code.
        self.sync = client

    @property
    def transport(self) -> str:
        return self.sync.transport

    async def register(self, model: Model) -> None:
        await self._call(self.sync.register, model)

    async def open(self, model: Model, token_ids: Any = (), **options: Any) -> AsyncSequence:
        return AsyncSequence(self, await self._call(self.sync.open, model, token_ids, **options))

    async def sequence(self, id: int, model: Model) -> AsyncSequence:
        return AsyncSequence(self, await self._call(self.sync.sequence, id, model))

    async def lookup(self, model: Model, token_ids: Any) -> int:
        return await self._call(self.sync.lookup, model, token_ids)

    async def list(self, after: int = 0, limit: int = 0) -> list[Any]:
        return await self._call(self.sync.list, after, limit)

    async def fetch(self, groups: Any) -> Rows:
        plain = [(sequence.sync, *rest) for sequence, *rest in groups]
        return await self._call(self.sync.fetch, plain)

    async def close(self) -> None:
        """Waits for calls under way. Closing twice is harmless."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.sync.close)
        self._pool.shutdown(wait=False)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _call(self, call: Callable[..., T], *args: Any, **options: Any) -> T:
        if self.sync.closed:
            raise passband.errors.Closed("the client is closed")
        return await _run(self._pool, call, *args, **options)


async def _make(threads: int, call: Callable[..., Client], *args: Any, **options: Any) -> AsyncClient:
    pool = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="passband")
    try:
        return AsyncClient(await _run(pool, call, *args, **options), pool)
    except BaseException:
        pool.shutdown(wait=False)
        raise


async def connect(address: str = "127.0.0.1:50061", *, threads: int = 8, **options: Any) -> AsyncClient:
    """``passband.connect`` with ``threads`` threads for calls under way."""
    return await _make(threads, passband.connect, address, **options)


async def embedded(ram: int | str = "1GiB", *, threads: int = 8, **options: Any) -> AsyncClient:
    """``passband.embedded`` with ``threads`` threads for calls under way."""
    return await _make(threads, passband.embedded, ram, **options)
