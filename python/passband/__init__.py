"""Passband: keys and values of long contexts, kept by a service.

    import passband

    with passband.embedded(ram="2GiB") as client:        # or passband.connect("host:50061")
        model = passband.Model("demo:1", layers=2, kv_heads=2, head_dim=64, dtype="f32")
        with client.open(model, token_ids=prompt) as sequence:
            sequence.append(0, keys, values)             # [kv_heads, tokens, head_dim]
            sequence.flush()
            rows = sequence.fetch(0, [3, 17, 42])        # [kv_heads, 3, 2, head_dim]

``passband.aio`` is the same for asyncio, ``passband.transformers`` attaches a model of Hugging
Face Transformers. Errors are in ``passband.errors``.
"""

import os as _os

from passband import _core, errors
from passband.client import Client, Model, Profile, connect, embedded
from passband.errors import Error
from passband.rows import PendingRows, Rows
from passband.sequence import Sequence

__all__ = [
    "Client", "Error", "Model", "PendingRows", "Profile", "Rows", "Sequence", "connect",
    "embedded", "errors",
]  # fmt: skip
__version__ = "0.1.0"

#: Log level of the native side, on standard error: PASSBAND_LOG, or warn.
_core.configure_log(_os.environ.get("PASSBAND_LOG", "warn"))
