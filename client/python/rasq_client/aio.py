"""The client for asyncio: the same calls, awaited. All of a client's calls are of one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import AsyncIterator, Callable, Optional, Sequence, Union

import grpc
import grpc.aio

from rasq.v1 import model_pb2, model_pb2_grpc
from rasq.v1 import session_pb2 as pb
from rasq.v1 import session_pb2_grpc
from rasq_client import requests
from rasq_client.errors import FirstError, RasqError, error_of, translated
from rasq_client.pieces import AppendProgress, Pieces, StreamLimits
from rasq_client.requests import Content, Labels
from rasq_client.security import Security


class AsyncGeneration:
    """As Generation: `async for` its text, or await text()."""

    def __init__(self, call: grpc.aio.UnaryStreamCall) -> None:
        self._call = call
        self.tokens: list[pb.GeneratedToken] = []
        self.summary: Optional[pb.GenerateSummary] = None

    async def __aiter__(self) -> AsyncIterator[str]:
        with translated():
            async for response in self._call:
                self.tokens.extend(response.tokens)
                if response.HasField("summary"):
                    self.summary = response.summary
                if response.text:
                    yield response.text

    async def text(self) -> str:
        return "".join([piece async for piece in self])

    def cancel(self) -> None:
        self._call.cancel()


class AsyncAppendStream:
    """As AppendStream. One task writes."""

    def __init__(
        self, client: AsyncClient, session_id: str, limits: StreamLimits, score: bool = False
    ) -> None:
        self._client = client
        self._session_id = session_id
        self._limits = limits
        self._pieces = Pieces(session_id, limits, score)
        self._changed = asyncio.Condition()
        self._call: Optional[grpc.aio.StreamStreamCall] = None
        self._reader: Optional[asyncio.Task[None]] = None
        self._connections = 0
        self._first_error = FirstError()

    async def write(self, text: Union[str, bytes]) -> None:
        with self._first_error.guard():
            if not self._pieces.started:  # before a piece can have an offset
                await self._pump()
            for piece in self._pieces.cut(text):
                self._pieces.add(piece)
                await self._await(lambda: not self._pieces.full())

    async def flush(self) -> None:
        with self._first_error.guard():
            await self._await(self._pieces.done)

    async def finish(self) -> AppendProgress:
        with self._first_error.guard():
            self._pieces.end_text()
            while True:
                await self._pump()
                if self._call is None:
                    break
                await self._disconnect()
        return self.progress

    @property
    def progress(self) -> AppendProgress:
        return self._pieces.progress

    async def __aenter__(self) -> AsyncAppendStream:
        return self

    async def __aexit__(self, kind: object, value: object, traceback: object) -> None:
        if kind is None:
            await self.finish()
        elif self._call is not None:
            self._call.cancel()
            self._call = None

    async def _await(self, done: Callable[[], bool]) -> None:
        while True:
            await self._pump()
            if self._reader is None:
                return  # nothing is left to send
            reader: asyncio.Task[None] = self._reader
            async with self._changed:
                await self._changed.wait_for(
                    lambda: done() or reader.done() or self._pieces.draining
                )
            if done():
                return

    async def _pump(self) -> None:
        while True:
            if self._call is None:
                if not self._pieces.wants_connection():
                    return
                await self._connect()
            assert self._call is not None and self._reader is not None
            if not (self._reader.done() or self._pieces.draining):
                try:
                    for request in self._pieces.unsent():
                        await self._call.write(request)
                    return
                except (grpc.RpcError, asyncio.InvalidStateError):
                    pass  # it has ended: its code says how
            await self._disconnect()

    async def _connect(self) -> None:
        while True:
            await asyncio.sleep(self._pieces.backoff())
            again = self._pieces.started
            try:
                response = await self._client.sessions.GetSession(
                    pb.GetSessionRequest(session_id=self._session_id),
                    metadata=self._client.metadata(self._session_id),
                    timeout=self._limits.reconnect_timeout if again else self._client.timeout,
                    wait_for_ready=again,
                )
                break
            except grpc.RpcError as error:
                if not self._pieces.may_reconnect(error.code()):
                    raise error_of(error) from None
        self._pieces.synchronise(response.session)
        self._connections += 1
        self.progress.reconnects = self._connections - 1
        self._call = self._client.sessions.StreamAppend(
            metadata=self._client.metadata(self._session_id)
        )
        self._reader = asyncio.ensure_future(self._read(self._call))
        self._reader.add_done_callback(lambda _: asyncio.ensure_future(self._notify()))

    async def _read(self, call: grpc.aio.StreamStreamCall) -> None:
        try:
            async for ack in call:
                self._pieces.on_ack(ack)
                await self._notify()
        except grpc.RpcError:
            pass  # _disconnect looks at the call's code

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _disconnect(self) -> None:
        call, reader = self._call, self._reader
        assert call is not None and reader is not None
        self._call = self._reader = None
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError):
            await call.done_writing()
        await reader
        end = RasqError(
            await call.code(), await call.details() or "", await call.trailing_metadata() or ()
        )
        if not self._pieces.survives(end, self._connections):
            raise end


class AsyncClient:
    """As Client, awaited. Use it where its event loop runs."""

    def __init__(
        self,
        address: str = "",
        *,
        security: Optional[Security] = None,
        timeout: Optional[float] = None,
    ) -> None:
        self.address = requests.address_or_default(address)
        self.timeout = timeout
        self._security = security or Security()
        self._security.token_for(self.address)
        credentials = self._security.credentials()
        self._channel = (
            grpc.aio.insecure_channel(self.address, requests.CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(self.address, credentials, requests.CHANNEL_OPTIONS)
        )
        self.sessions = session_pb2_grpc.SessionServiceStub(self._channel)
        self.models = model_pb2_grpc.ModelServiceStub(self._channel)

    async def close(self) -> None:
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *unused: object) -> None:
        await self.close()

    def metadata(self, session_id: str = "") -> list[tuple[str, str]]:
        return requests.metadata_of(session_id, self._security.token_for(self.address))

    async def create_session(
        self,
        session_id: str = "",
        *,
        options: Optional[pb.SessionOptions] = None,
        labels: Labels = None,
    ) -> pb.Session:
        request = requests.create_request(session_id, options, labels)
        with translated():
            response = await self.sessions.CreateSession(
                request, metadata=self.metadata(session_id), timeout=self.timeout
            )
        return response.session

    async def get_session(self, session_id: str) -> pb.Session:
        with translated():
            response = await self.sessions.GetSession(
                pb.GetSessionRequest(session_id=session_id),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )
        return response.session

    async def list_sessions(self) -> AsyncIterator[pb.Session]:
        request = pb.ListSessionsRequest()
        while True:
            with translated():
                page = await self.sessions.ListSessions(
                    request, metadata=self.metadata(), timeout=self.timeout
                )
            for session in page.sessions:
                yield session
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def delete_session(self, session_id: str) -> None:
        with translated():
            await self.sessions.DeleteSession(
                pb.DeleteSessionRequest(session_id=session_id),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )

    async def fork_session(
        self, session_id: str, new_session_id: str = "", *, labels: Labels = None
    ) -> pb.Session:
        with translated():
            response = await self.sessions.ForkSession(
                requests.fork_request(session_id, new_session_id, labels),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )
        return response.session

    async def snapshot_session(self, session_id: str, snapshot_id: str = "") -> pb.Snapshot:
        with translated():
            response = await self.sessions.SnapshotSession(
                pb.SnapshotSessionRequest(session_id=session_id, snapshot_id=snapshot_id),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )
        return response.snapshot

    async def restore_session(
        self, snapshot_id: str, session_id: str = "", *, labels: Labels = None
    ) -> pb.Session:
        with translated():
            response = await self.sessions.RestoreSession(
                requests.restore_request(snapshot_id, session_id, labels),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )
        return response.session

    async def list_snapshots(self) -> AsyncIterator[pb.Snapshot]:
        request = pb.ListSnapshotsRequest()
        while True:
            with translated():
                page = await self.sessions.ListSnapshots(
                    request, metadata=self.metadata(), timeout=self.timeout
                )
            for snapshot in page.snapshots:
                yield snapshot
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    async def delete_snapshot(self, snapshot_id: str) -> None:
        with translated():
            await self.sessions.DeleteSnapshot(
                pb.DeleteSnapshotRequest(snapshot_id=snapshot_id),
                metadata=self.metadata(),
                timeout=self.timeout,
            )

    async def append(
        self,
        session_id: str,
        content: Content,
        *,
        offset: Optional[int] = None,
        pinned: bool = False,
        score: bool = False,
    ) -> pb.AppendResponse:
        with translated():
            return await self.sessions.Append(
                requests.append_request(session_id, content, offset, pinned, score),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )

    def append_stream(
        self, session_id: str, limits: StreamLimits = StreamLimits(), *, score: bool = False
    ) -> AsyncAppendStream:
        return AsyncAppendStream(self, session_id, limits, score)

    def generate(
        self,
        session_id: str,
        prompt: Content = "",
        *,
        sampling: Optional[pb.SamplingOptions] = None,
        stop: Optional[pb.StopOptions] = None,
        commit: bool = False,
        logprobs: int = 0,
        evidence: int = 0,
        timeout: Optional[float] = None,
    ) -> AsyncGeneration:
        request = requests.generate_request(
            session_id, prompt, sampling, stop, commit, logprobs, evidence
        )
        return AsyncGeneration(
            self.sessions.Generate(request, metadata=self.metadata(session_id), timeout=timeout)
        )

    async def model(self) -> model_pb2.GetModelResponse:
        with translated():
            return await self.models.GetModel(
                model_pb2.GetModelRequest(), metadata=self.metadata(), timeout=self.timeout
            )

    async def server_info(self) -> model_pb2.GetServerInfoResponse:
        with translated():
            return await self.models.GetServerInfo(
                model_pb2.GetServerInfoRequest(), metadata=self.metadata(), timeout=self.timeout
            )

    async def tokenize(self, text: str) -> list[int]:
        with translated():
            response = await self.models.Tokenize(
                model_pb2.TokenizeRequest(text=text),
                metadata=self.metadata(),
                timeout=self.timeout,
            )
        return list(response.token_ids)

    async def detokenize(self, token_ids: Sequence[int]) -> str:
        with translated():
            response = await self.models.Detokenize(
                model_pb2.DetokenizeRequest(token_ids=token_ids),
                metadata=self.metadata(),
                timeout=self.timeout,
            )
        return response.text
