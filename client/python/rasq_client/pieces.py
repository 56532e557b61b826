"""The arithmetic of a resumable append: which bytes of a session's text are where.

A session's text is one long byte string; an offset counts its bytes from the session's first. Text
is sent in pieces, each with its offset, and kept until the server says that it has it. After a
broken connection the server says where it stands, and the pieces from there are sent again: no byte
is lost or doubled. Offsets leave room for one writer a session.
"""

from __future__ import annotations

import codecs
import collections
import dataclasses
from typing import Iterator, Union

import grpc

from rasq.v1 import session_pb2 as pb
from rasq_client.errors import RasqError


@dataclasses.dataclass(frozen=True)
class StreamLimits:
    piece_bytes: int = 16 << 10  # of one message, at most
    max_in_flight_bytes: int = 256 << 10  # sent and not acknowledged: write waits past it
    max_attempts: int = 5  # in a row that get no byte across before the stream gives up
    first_backoff: float = 0.1  # seconds before the second; doubles each time
    reconnect_timeout: float = 20.0  # seconds that one attempt waits for the server

    def __post_init__(self) -> None:
        if self.piece_bytes < 4:
            raise ValueError(f"piece_bytes={self.piece_bytes}: a character may have 4")


@dataclasses.dataclass
class AppendProgress:
    acknowledged_bytes: int = 0  # of what was written here
    appended_tokens: int = 0  # absorbed since this stream began
    context_tokens: int = 0  # the session's
    next_offset: int = 0  # the session's
    # With score=True. What a broken connection did not tell any more is in neither.
    scored_tokens: int = 0
    logprob_sum: float = 0.0  # of these, natural logarithm
    reconnects: int = 0


class Pieces:
    """What was written and not acknowledged. No I/O, no threads."""

    def __init__(self, session_id: str, limits: StreamLimits, score: bool = False) -> None:
        self.progress = AppendProgress()
        self.attempts = 0  # since a byte last came across
        self.started = False
        self.draining = False  # the server asks for another connection
        self.absorbed = True  # all that this connection has sent is in the session's state
        self._asked_backoff = 0.0  # seconds, by a server that had no room
        self._session_id = session_id
        self._limits = limits
        self._score = score
        self._scored_before = (0, 0.0)  # by earlier connections: tokens, and their sum
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._pieces: collections.deque[tuple[int, bytes]] = collections.deque()
        self._first_offset = self._first_tokens = 0
        self._end = self._sent = 0

    def cut(self, text: Union[str, bytes]) -> Iterator[bytes]:
        """Pieces of whole characters; those of `bytes` may be cut between calls.

        UnicodeDecodeError if they are not UTF-8.
        """
        data = (text if isinstance(text, str) else self._decoder.decode(text)).encode()
        begin, limit = 0, self._limits.piece_bytes
        while begin < len(data):
            end = min(begin + limit, len(data))
            while end < len(data) and data[end] & 0xC0 == 0x80:
                end -= 1
            yield data[begin:end]
            begin = end

    def end_text(self) -> None:
        """UnicodeDecodeError if a character was begun and not ended."""
        self._decoder.decode(b"", final=True)

    def add(self, piece: bytes) -> None:
        self._pieces.append((self._end, piece))
        self._end += len(piece)

    @property
    def in_flight_bytes(self) -> int:
        return self._end - self._pieces[0][0] if self._pieces else 0

    def full(self) -> bool:
        return self.in_flight_bytes > self._limits.max_in_flight_bytes

    def done(self) -> bool:
        return not self._pieces and self.absorbed

    def unsent(self) -> list[pb.StreamAppendRequest]:
        """What this connection has not carried yet, which from now on counts as sent."""
        requests = [
            pb.StreamAppendRequest(
                session_id=self._session_id,
                offset=offset,
                content=pb.Content(text=piece.decode()),
                score=self._score,
            )
            for offset, piece in self._pieces
            if offset >= self._sent
        ]
        if requests:
            self._sent = self._end
            self.absorbed = False
        return requests

    def wants_connection(self) -> bool:
        return bool(self._pieces) or not self.started

    def backoff(self) -> float:
        """Seconds to wait before the next attempt; RasqError if there shall be none."""
        if self.attempts >= self._limits.max_attempts:
            raise RasqError(
                grpc.StatusCode.UNAVAILABLE,
                f"no byte came across in {self.attempts} attempts, session_id={self._session_id}",
            )
        self.attempts += 1
        if self.attempts == 1:
            return 0.0
        least = max(self._limits.first_backoff, self._asked_backoff)
        return least * (1 << min(self.attempts - 2, 10))

    def may_reconnect(self, code: grpc.StatusCode) -> bool:
        """Whether to ask again where the session stands; the first question must succeed."""
        return self.started and code in (
            grpc.StatusCode.UNAVAILABLE,
            grpc.StatusCode.DEADLINE_EXCEEDED,
        )

    def synchronise(self, session: pb.Session) -> None:
        """Before a connection: the server's word on where the session stands."""
        if not self.started:
            self._first_offset = self._end = session.next_offset
            self._first_tokens = session.context_tokens + session.backlog_tokens
            self.started = True
        acknowledged = self._end - self.in_flight_bytes
        if session.next_offset < acknowledged:
            raise RasqError(
                grpc.StatusCode.DATA_LOSS,
                f"the server lost acknowledged text, next_offset={session.next_offset} "
                f"acknowledged={acknowledged}",
            )
        if session.next_offset > self._end:
            raise RasqError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"another writer appends to session_id={self._session_id}",
            )
        self.acknowledge(session.next_offset, session.context_tokens)
        self._sent = session.next_offset
        self._scored_before = (self.progress.scored_tokens, self.progress.logprob_sum)
        self.draining = False
        self.absorbed = True

    def on_ack(self, ack: pb.StreamAppendResponse) -> None:
        self.draining |= ack.draining
        self.absorbed = ack.absorbed_tokens == ack.accepted_tokens
        self.progress.scored_tokens = self._scored_before[0] + ack.scored_tokens
        self.progress.logprob_sum = self._scored_before[1] + ack.logprob_sum
        self.acknowledge(ack.next_offset, ack.context_tokens)

    def acknowledge(self, next_offset: int, context_tokens: int) -> None:
        if next_offset > self.progress.next_offset and self.started:
            self.attempts = min(self.attempts, 1)
        while self._pieces:
            offset, piece = self._pieces[0]
            known = next_offset - offset
            if known <= 0:
                break
            self._pieces.popleft()
            if known < len(piece):
                self._pieces.appendleft((next_offset, piece[known:]))
                break
        self.progress.next_offset = next_offset
        self.progress.context_tokens = context_tokens
        self.progress.acknowledged_bytes = next_offset - self._first_offset
        self.progress.appended_tokens = max(0, context_tokens - self._first_tokens)

    def survives(self, end: RasqError, connections: int) -> bool:
        """Whether another connection may go on after one that ended so, which may be well.

        A server that drains ends the stream well. One without room says when to come back. A
        position learnt while a broken connection's last messages were still on their way is out of
        range by the time the next one uses it.
        """
        code, self._asked_backoff = end.code, 0.0
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and end.retry_after is not None:
            self._asked_backoff = end.retry_after
            return self.attempts < self._limits.max_attempts
        return code in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE) or (
            code == grpc.StatusCode.OUT_OF_RANGE and connections > 1
        )
