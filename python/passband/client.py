"""Client: a connection to a Passband server, or a store in this process."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from typing import Any, Iterable

from passband import _core, errors
from passband.rows import PendingRows, Rows
from passband.sequence import Sequence, _ids

_BYTES = {"bf16": 2, "f16": 2, "f32": 4}


@dataclass(frozen=True)
class Model:
    """What the service needs to know of a model. Equal fingerprints mean equal rows."""

    fingerprint: str  # "architecture:weights"
    layers: int
    kv_heads: int
    head_dim: int = 128
    query_heads: int = 0  # 0: kv_heads
    rotary_dim: int = -1  # -1: head_dim
    dtype: str = "bf16"  # "f16", "f32"
    rope_layout: str = "half"  # "interleaved"
    name: str = ""
    _native: Any = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.query_heads == 0:
            object.__setattr__(self, "query_heads", self.kv_heads)
        if self.rotary_dim < 0:
            object.__setattr__(self, "rotary_dim", self.head_dim)
        for name in ("layers", "kv_heads", "head_dim", "query_heads", "rotary_dim"):
            value = getattr(self, name)
            if not isinstance(value, int) or not 0 <= value < 1 << 16:
                raise errors.InvalidArgument(f"{name}={value!r}: a number below 65536 is wanted")
        object.__setattr__(
            self,
            "_native",
            _core.Model.make(
                self.fingerprint, self.name, self.layers, self.query_heads, self.kv_heads,
                self.head_dim, self.rotary_dim, self.dtype, self.rope_layout,
            ),
        )  # fmt: skip

    @property
    def row_bytes(self) -> int:
        """Bytes of a row: one token's [K | V] of one layer and kv head."""
        return 2 * self.head_dim * _BYTES[self.dtype]

    @property
    def token_bytes(self) -> int:
        """Bytes of all rows of a token."""
        return self.row_bytes * self.layers * self.kv_heads


class Profile:
    """How to cut slices from one checkpoint's keys; made by calibration."""

    def __init__(self, native: _core.Profile) -> None:
        self._native = native

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Profile:
        return cls(_core.Profile.load(os.fspath(path)))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._native, name)

    def __repr__(self) -> str:
        return (
            f"<passband.Profile of {self.model_name}: {self.chunks} chunks a head, "
            f"{self.encoding}, {self.slice_bytes} bytes a token and head>"
        )


class Client:
    """Made by ``passband.connect()`` or ``passband.embedded()``. Threads may share it.

    The GIL is released while a call works or waits. No call waits longer than its timeout.
    """

    def __init__(self, service: _core.Service, address: str) -> None:
        self._service = service
        self._registered: set[str] = set()
        self._pid = os.getpid()
        self.address = address

    # -- models and sequences

    def register(self, model: Model) -> None:
        """Makes a model known to the service; ``open`` does it, too."""
        self._service.register_model(model._native)
        self._registered.add(model.fingerprint)

    def open(
        self,
        model: Model,
        token_ids: Any = (),
        *,
        share_prefix: bool = True,
        max_tokens: int = 0,
        ttl: float = 0,
    ) -> Sequence:
        """Opens a sequence. ``sequence.matched`` says how many tokens of ``token_ids`` are
        there already, rows and all. ``ttl``: seconds unused after which it is closed."""
        if model.fingerprint not in self._registered:
            self.register(model)
        id, matched = self._service.open(
            model.fingerprint, _ids(token_ids), share_prefix, max_tokens, ttl
        )
        return Sequence(self, model, id, matched, matched)

    def sequence(self, id: int, model: Model) -> Sequence:
        """A sequence that exists, as another client sealed it, by its id."""
        if model.fingerprint not in self._registered:
            self.register(model)
        stat = self._service.stat(id)
        if stat.model != model.fingerprint:
            raise errors.FailedPrecondition(
                f"sequence {id} is of model {stat.model}, not {model.fingerprint}"
            )
        sequence = Sequence(self, model, id, stat.committed_tokens, stat.committed_tokens)
        sequence._sealed = stat.sealed
        return sequence

    def lookup(self, model: Model, token_ids: Any) -> int:
        """How many tokens of a prompt are there already."""
        return self._service.lookup(model.fingerprint, _ids(token_ids))

    def list(self, after: int = 0, limit: int = 0) -> list[_core.SequenceStat]:
        """Sequences in the order of ids, after ``after``."""
        return self._service.list(after, limit)

    # -- rows of many sequences at once

    def fetch_async(self, groups: Iterable[tuple[Sequence, int, int, Any]]) -> PendingRows:
        """As ``fetch``, without waiting."""
        groups = list(groups)
        if not groups:
            raise errors.InvalidArgument("no groups to fetch")
        model = groups[0][0].model
        wanted = []
        count = 0
        for sequence, layer, head, tokens in groups:
            if sequence.model.row_bytes != model.row_bytes or sequence.model.dtype != model.dtype:
                raise errors.InvalidArgument("one fetch takes sequences with rows of one type")
            if sequence.closed:
                raise errors.Closed(f"sequence {sequence.id} is closed")
            tokens = _ids(tokens)
            wanted.append((sequence.id, layer, head, tokens))
            count += len(tokens)
        landing = self._service.fetch(wanted, model.row_bytes)
        return PendingRows(landing, (count, 2, model.head_dim), model.dtype)

    def fetch(self, groups: Iterable[tuple[Sequence, int, int, Any]]) -> Rows:
        """Rows of many ``(sequence, layer, kv_head, tokens)`` in one request:
        ``[n, 2, head_dim]`` in the order asked for."""
        return self.fetch_async(groups).wait()

    # -- the connection

    @property
    def transport(self) -> str:
        """What carries the rows: shm, tcp, rdma, grpc, grpc+tls or embedded."""
        return self._service.transport()

    def traffic(self) -> _core.Traffic:
        """Bytes moved and requests made so far."""
        return self._service.traffic()

    @property
    def closed(self) -> bool:
        return self._service.closed

    def close(self) -> None:
        """Ends the session: its sequences are closed, unless they are sealed. Calls under way
        end first. Closing twice is harmless."""
        self._service.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        service = getattr(self, "_service", None)
        if service is not None and not service.closed and self._pid == os.getpid():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        state = "closed" if self._service.closed else "open"
        return f"<passband.Client of {self.address}, {state}>"


def _bytes(size: int | str) -> int:
    return size if isinstance(size, int) else _core.parse_bytes(size)


def _seconds(name: str, value: float, least: float = 0.001) -> float:
    if not isinstance(value, (int, float)) or not least <= value <= 86400 * 365:
        raise errors.InvalidArgument(f"{name}={value!r}: seconds, {least} at least")
    return float(value)


def connect(
    address: str = "127.0.0.1:50061",
    *,
    tenant: str = "",
    name: str = "passband-python",
    timeout: float = 2.0,
    connect_timeout: float = 5.0,
    control_timeout: float = 5.0,
    transports: str = "auto",
    net_devices: str = "",
    data_plane: str = "auto",
    tls_ca: str = "",
    tls_certificate: str = "",
    tls_key: str = "",
    tls_server_name: str = "",
    landing: int | str = "1GiB",
    verify_checksums: bool = False,
) -> Client:
    """Connects to a server's control address, ``host:port`` or ``passband://host:port``.

    timeout: seconds of one request for or with rows. data_plane: ucx, grpc or auto. landing: at
    most so much registered memory for answers. tls_*: PEM files; naming one turns TLS on.
    """
    host = address.removeprefix("passband://")
    service = _core.Service.connect(
        host, tenant, name, _seconds("connect_timeout", connect_timeout),
        _seconds("control_timeout", control_timeout), _seconds("timeout", timeout), transports,
        net_devices, data_plane, os.fspath(tls_ca), os.fspath(tls_certificate),
        os.fspath(tls_key), tls_server_name, _bytes(landing), verify_checksums,
    )  # fmt: skip
    return Client(service, host)


def embedded(
    ram: int | str = "1GiB", *, tenant: str = "default", ttl: float = 0, pin_limit: int | str = 0
) -> Client:
    """A store in this process, with the same answers as a server's: no network, no server."""
    service = _core.Service.embedded(
        _bytes(ram), tenant, _seconds("ttl", ttl, 0), _bytes(pin_limit)
    )
    return Client(service, "embedded")
