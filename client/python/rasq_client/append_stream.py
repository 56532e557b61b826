"""Sends text into one session in pieces and resumes after a broken connection."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Callable, Optional, Union

import grpc

from rasq.v1 import session_pb2 as pb
from rasq_client.errors import FirstError, error_of
from rasq_client.pieces import AppendProgress, Pieces, StreamLimits

if TYPE_CHECKING:
    from rasq_client.client import Client


class _Connection:
    """One StreamAppend call, and the thread that reads its acks."""

    def __init__(self, stream: AppendStream, client: Client, session_id: str) -> None:
        self._requests: queue.SimpleQueue[Optional[pb.StreamAppendRequest]] = queue.SimpleQueue()
        self.call = client.sessions.StreamAppend(
            iter(self._requests.get, None), metadata=client.metadata(session_id)
        )
        self.ended = False
        self._stream = stream
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, request: pb.StreamAppendRequest) -> None:
        self._requests.put(request)

    def _read(self) -> None:
        try:
            for ack in self.call:
                with self._stream._changed:
                    self._stream._pieces.on_ack(ack)
                    self._stream._changed.notify_all()
        except grpc.RpcError:
            pass  # close() looks at the call's code
        with self._stream._changed:
            self.ended = True
            self._stream._changed.notify_all()

    def close(self) -> None:
        """Half-closes, and returns when the server has ended the call."""
        self._requests.put(None)
        self._reader.join()

    def cancel(self) -> None:
        self.call.cancel()
        self.close()


class AppendStream:
    """Made by Client.append_stream. One thread writes; progress may be looked at by any."""

    def __init__(
        self, client: Client, session_id: str, limits: StreamLimits, score: bool = False
    ) -> None:
        self._client = client
        self._session_id = session_id
        self._limits = limits
        self._changed = threading.Condition()
        self._pieces = Pieces(session_id, limits, score)
        self._connection: Optional[_Connection] = None
        self._connections = 0
        self._first_error = FirstError()

    def write(self, text: Union[str, bytes]) -> None:
        """Sends text of any size; a character of bytes may be cut between two calls.

        Waits while too much is in flight. After any error the stream is over, and all calls raise
        that error.
        """
        with self._first_error.guard():
            self._connect_first()
            for piece in self._pieces.cut(text):
                with self._changed:
                    self._pieces.add(piece)
                self._await(lambda: not self._pieces.full())

    def flush(self) -> None:
        """Waits until all that was written is in the session's state."""
        with self._first_error.guard():
            self._await(self._pieces.done)

    def finish(self) -> AppendProgress:
        """Flushes and ends the stream."""
        with self._first_error.guard():
            self._pieces.end_text()
            while True:
                self._pump()
                if self._connection is None:
                    break
                self._disconnect()
        return self.progress

    @property
    def progress(self) -> AppendProgress:
        return self._pieces.progress

    def __enter__(self) -> AppendStream:
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        """Finishes; after an error breaks off: what was not acknowledged may or may not be there."""
        if kind is None:
            self.finish()
        elif self._connection is not None:
            self._connection.cancel()
            self._connection = None

    def _connect_first(self) -> None:
        if not self._pieces.started:  # before a piece can have an offset
            self._pump()

    def _await(self, done: Callable[[], bool]) -> None:
        while True:
            self._pump()
            if self._connection is None:
                return  # nothing is left to send
            connection: _Connection = self._connection
            with self._changed:
                self._changed.wait_for(
                    lambda: done() or connection.ended or self._pieces.draining
                )
                if done():
                    return

    def _pump(self) -> None:
        """Hands what is unsent to a connection that lives."""
        while True:
            if self._connection is None:
                if not self._pieces.wants_connection():
                    return
                self._connection = self._connect()
            with self._changed:
                if not (self._connection.ended or self._pieces.draining):
                    for request in self._pieces.unsent():
                        self._connection.send(request)
                    return
            self._disconnect()

    def _connect(self) -> _Connection:
        while True:
            time.sleep(self._pieces.backoff())
            try:
                again = self._pieces.started
                response = self._client.sessions.GetSession(
                    pb.GetSessionRequest(session_id=self._session_id),
                    metadata=self._client.metadata(self._session_id),
                    timeout=self._limits.reconnect_timeout if again else self._client.timeout,
                    wait_for_ready=again,
                )
                break
            except grpc.RpcError as error:
                if not self._pieces.may_reconnect(error.code()):
                    raise error_of(error) from None
        with self._changed:
            self._pieces.synchronise(response.session)
        self._connections += 1
        self.progress.reconnects = self._connections - 1
        return _Connection(self, self._client, self._session_id)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        assert connection is not None
        connection.close()
        end = error_of(connection.call)
        if not self._pieces.survives(end, self._connections):
            raise end
