"""What can go wrong, a class each. Every message ends with what to do next.

``Error`` has the service's status ``code`` (the numbers of gRPC), and ``retry_after`` in seconds
where the service said after which time trying again makes sense.
"""

from __future__ import annotations


class Error(Exception):
    """A call that failed. Subclasses say why."""

    code: int = 2
    next_step: str = ""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{message}. Next: {self.next_step}" if self.next_step else message)

    @property
    def retryable(self) -> bool:
        """Whether the same call may succeed later, unchanged."""
        return self.code in (4, 8, 10, 14)

    def __reduce__(self):
        return (type(self), (self.message, self.retry_after))


class Cancelled(Error):
    code = 1
    next_step = "make the call again if its answer is still wanted"


class Unknown(Error):
    code = 2
    next_step = "look at the server's log"


class InvalidArgument(Error, ValueError):
    code = 3
    next_step = "correct the argument; trying again changes nothing"


class DeadlineExceeded(Error, TimeoutError):
    code = 4
    next_step = (
        "try again, or connect(timeout=...) with more time; `passband status` shows how busy the "
        "server is"
    )


class NotFound(Error, LookupError):
    code = 5
    next_step = (
        "open the sequence again (it was closed, or is another tenant's), or register the model "
        "with client.register(model)"
    )


class AlreadyExists(Error):
    code = 6
    next_step = "use what is there, or another name"


class PermissionDenied(Error, PermissionError):
    code = 7
    next_step = "connect as a tenant that may do this (tenant=, or the certificate's)"


class ResourceExhausted(Error):
    code = 8
    next_step = (
        "close sequences that are done with, wait `retry_after` seconds, or give the server more "
        "--ram or a --spill-dir"
    )


class FailedPrecondition(Error):
    code = 9
    next_step = "bring the sequence or the model into the state that the message asks for"


class Aborted(Error):
    code = 10
    next_step = "make the call again"


class OutOfRange(Error, IndexError):
    code = 11
    next_step = "ask for tokens that the layer holds (sequence.stat() says how many)"


class Unimplemented(Error, NotImplementedError):
    code = 12
    next_step = "do without it, or use a server and client of the same version"


class Internal(Error):
    code = 13
    next_step = "report it with the server's log"


class Unavailable(Error, ConnectionError):
    code = 14
    next_step = "see that the server runs (`passband status`), then passband.connect() again"


class DataLoss(Error):
    code = 15
    next_step = "do not use what came; `passband verify` checks what the server has on its disk"


class Unauthenticated(Error):
    code = 16
    next_step = "the session is over: passband.connect() again"


class Closed(FailedPrecondition):
    """A client or sequence used after close()."""

    next_step = "make a new one: passband.connect(), or client.open()"


class ForkedProcess(FailedPrecondition):
    """A client used by a fork of the process that made it."""

    next_step = (
        "connect in the child itself, or start it with multiprocessing's 'spawn': connections do "
        "not survive a fork"
    )


class NoCuda(Unimplemented):
    """An array on a GPU, where it cannot be taken."""

    next_step = "move it to the CPU first, as in tensor.cpu()"


class InvalidArray(InvalidArgument):
    """An array of the wrong shape, type or layout."""

    next_step = "pass the array as the message says"


class UnsupportedModel(Unimplemented):
    """A model, or a way of generating, that cannot be served exactly as asked."""

    next_step = "use the model without passband, or one of the families in docs/python.md"


class ProfileMismatch(FailedPrecondition):
    """A profile that was made for another checkpoint."""

    next_step = "make one for this model: passband.transformers.calibrate(model, texts)"


class ModelChanged(FailedPrecondition):
    """A model that is not any more what it was when it was attached."""

    next_step = "h.detach(), then attach() again"


_BY_CODE = {
    kind.code: kind
    for kind in (
        Cancelled, Unknown, InvalidArgument, DeadlineExceeded, NotFound, AlreadyExists,
        PermissionDenied, ResourceExhausted, FailedPrecondition, Aborted, OutOfRange,
        Unimplemented, Internal, Unavailable, DataLoss, Unauthenticated,
    )
}  # fmt: skip
_BY_REASON = {
    "closed": Closed, "forked": ForkedProcess, "cuda": NoCuda, "array": InvalidArray,
}  # fmt: skip


def _from_status(code: int, message: str, retry_after: float | None, reason: str) -> Error:
    """Called by the native module."""
    kind = _BY_REASON.get(reason) or _BY_CODE.get(code, Unknown)
    return kind(message, retry_after)
