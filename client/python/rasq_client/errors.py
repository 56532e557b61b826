"""What goes wrong, with what the server says about it."""

from __future__ import annotations

import contextlib
from typing import Any, Iterable, Iterator, Optional

import grpc

from rasq_client import error_details_pb2 as details


class RasqError(Exception):
    """A call that failed, at the server or on the way."""

    def __init__(
        self, code: grpc.StatusCode, message: str, metadata: Iterable[tuple[str, Any]] = ()
    ) -> None:
        """metadata: that which trailed the call, where errors have their details."""
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.request_id = ""  # what the server's log calls the call
        self.fields: dict[str, str] = {}  # of the request: what is wrong with each
        self.retry_after: Optional[float] = None  # seconds, if the server asks to wait
        for key, value in metadata:
            if key == "grpc-status-details-bin":
                self._read(details.Status.FromString(value))

    def _read(self, status: details.Status) -> None:
        for detail in status.details:
            name = detail.type_url.rpartition("/")[2]
            if name == "google.rpc.ErrorInfo":
                info = details.ErrorInfo.FromString(detail.value)
                self.request_id = info.metadata.get("request_id", "")
            elif name == "google.rpc.BadRequest":
                for violation in details.BadRequest.FromString(detail.value).field_violations:
                    self.fields[violation.field] = violation.description
            elif name == "google.rpc.RetryInfo":
                delay = details.RetryInfo.FromString(detail.value).retry_delay
                self.retry_after = delay.ToTimedelta().total_seconds()


class FirstError:
    """Keeps what first went wrong inside `guard`, and raises it again at every later one."""

    def __init__(self) -> None:
        self._error: Optional[BaseException] = None

    @contextlib.contextmanager
    def guard(self) -> Iterator[None]:
        if self._error is not None:
            raise self._error
        try:
            yield
        except (RasqError, UnicodeError) as error:
            self._error = error
            raise


def error_of(error: grpc.RpcError) -> RasqError:
    """Of a call that has ended, or of what it raised."""
    return RasqError(error.code(), error.details() or "", error.trailing_metadata() or ())


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What gRPC raises inside comes out as RasqError."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error) from None
