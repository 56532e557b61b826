"""The client for ordinary Python. Its channel may be used by many threads."""

from __future__ import annotations

from typing import Iterator, Optional, Sequence

import grpc

from rasq.v1 import model_pb2, model_pb2_grpc
from rasq.v1 import session_pb2 as pb
from rasq.v1 import session_pb2_grpc
from rasq_client import requests
from rasq_client.append_stream import AppendStream
from rasq_client.errors import translated
from rasq_client.pieces import StreamLimits
from rasq_client.requests import Content, Labels
from rasq_client.security import Security


class Generation:
    """An answer under way: iterate for its text as it comes, or ask for all of it by text()."""

    def __init__(self, call: grpc.Call) -> None:
        self._call = call
        self.tokens: list[pb.GeneratedToken] = []  # so far
        self.summary: Optional[pb.GenerateSummary] = None  # after the end

    def __iter__(self) -> Iterator[str]:
        with translated():
            for response in self._call:
                self.tokens.extend(response.tokens)
                if response.HasField("summary"):
                    self.summary = response.summary
                if response.text:
                    yield response.text

    def text(self) -> str:
        return "".join(self)

    def cancel(self) -> None:
        """Frees the device within a step and leaves the session as if nothing had been asked."""
        self._call.cancel()


class Client:
    """Calls raise RasqError. `timeout`: seconds for calls other than streams; None: no limit."""

    def __init__(
        self,
        address: str = "",
        *,
        security: Optional[Security] = None,
        timeout: Optional[float] = None,
    ) -> None:
        """address: HOST:PORT or a gRPC target; empty: RASQ_ADDRESS, else 127.0.0.1:50051."""
        self.address = requests.address_or_default(address)
        self.timeout = timeout
        self._security = security or Security()
        self._security.token_for(self.address)  # says now what it would say at the first call
        credentials = self._security.credentials()
        self._channel = (
            grpc.insecure_channel(self.address, requests.CHANNEL_OPTIONS)
            if credentials is None
            else grpc.secure_channel(self.address, credentials, requests.CHANNEL_OPTIONS)
        )
        self.sessions = session_pb2_grpc.SessionServiceStub(self._channel)
        self.models = model_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def metadata(self, session_id: str = "") -> list[tuple[str, str]]:
        return requests.metadata_of(session_id, self._security.token_for(self.address))

    def create_session(
        self,
        session_id: str = "",
        *,
        options: Optional[pb.SessionOptions] = None,
        labels: Labels = None,
    ) -> pb.Session:
        """Without an id the server chooses one."""
        request = requests.create_request(session_id, options, labels)
        with translated():
            return self.sessions.CreateSession(
                request, metadata=self.metadata(session_id), timeout=self.timeout
            ).session

    def get_session(self, session_id: str) -> pb.Session:
        with translated():
            return self.sessions.GetSession(
                pb.GetSessionRequest(session_id=session_id),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            ).session

    def list_sessions(self) -> Iterator[pb.Session]:
        """All, by id."""
        request = pb.ListSessionsRequest()
        while True:
            with translated():
                page = self.sessions.ListSessions(
                    request, metadata=self.metadata(), timeout=self.timeout
                )
            yield from page.sessions
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def delete_session(self, session_id: str) -> None:
        with translated():
            self.sessions.DeleteSession(
                pb.DeleteSessionRequest(session_id=session_id),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )

    def fork_session(
        self, session_id: str, new_session_id: str = "", *, labels: Labels = None
    ) -> pb.Session:
        """A new session with this one's state; from then on they have nothing in common."""
        with translated():
            return self.sessions.ForkSession(
                requests.fork_request(session_id, new_session_id, labels),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            ).session

    def snapshot_session(self, session_id: str, snapshot_id: str = "") -> pb.Snapshot:
        with translated():
            return self.sessions.SnapshotSession(
                pb.SnapshotSessionRequest(session_id=session_id, snapshot_id=snapshot_id),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            ).snapshot

    def restore_session(
        self, snapshot_id: str, session_id: str = "", *, labels: Labels = None
    ) -> pb.Session:
        with translated():
            return self.sessions.RestoreSession(
                requests.restore_request(snapshot_id, session_id, labels),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            ).session

    def list_snapshots(self) -> Iterator[pb.Snapshot]:
        """All, by id."""
        request = pb.ListSnapshotsRequest()
        while True:
            with translated():
                page = self.sessions.ListSnapshots(
                    request, metadata=self.metadata(), timeout=self.timeout
                )
            yield from page.snapshots
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def delete_snapshot(self, snapshot_id: str) -> None:
        with translated():
            self.sessions.DeleteSnapshot(
                pb.DeleteSnapshotRequest(snapshot_id=snapshot_id),
                metadata=self.metadata(),
                timeout=self.timeout,
            )

    def append(
        self,
        session_id: str,
        content: Content,
        *,
        offset: Optional[int] = None,
        pinned: bool = False,
        score: bool = False,
    ) -> pb.AppendResponse:
        """Returns when the content is in the session's state. For much text: append_stream.

        With `score` the answer has logprob_sum, how likely the model found the scored_tokens.
        """
        with translated():
            return self.sessions.Append(
                requests.append_request(session_id, content, offset, pinned, score),
                metadata=self.metadata(session_id),
                timeout=self.timeout,
            )

    def append_stream(
        self, session_id: str, limits: StreamLimits = StreamLimits(), *, score: bool = False
    ) -> AppendStream:
        return AppendStream(self, session_id, limits, score)

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
    ) -> Generation:
        """commit: prompt and answer become context. evidence: so many runs of context in summary."""
        request = requests.generate_request(
            session_id, prompt, sampling, stop, commit, logprobs, evidence
        )
        return Generation(
            self.sessions.Generate(request, metadata=self.metadata(session_id), timeout=timeout)
        )

    def model(self) -> model_pb2.GetModelResponse:
        with translated():
            return self.models.GetModel(
                model_pb2.GetModelRequest(), metadata=self.metadata(), timeout=self.timeout
            )

    def server_info(self) -> model_pb2.GetServerInfoResponse:
        with translated():
            return self.models.GetServerInfo(
                model_pb2.GetServerInfoRequest(), metadata=self.metadata(), timeout=self.timeout
            )

    def tokenize(self, text: str) -> list[int]:
        with translated():
            return list(
                self.models.Tokenize(
                    model_pb2.TokenizeRequest(text=text),
                    metadata=self.metadata(),
                    timeout=self.timeout,
                ).token_ids
            )

    def detokenize(self, token_ids: Sequence[int]) -> str:
        with translated():
            return self.models.Detokenize(
                model_pb2.DetokenizeRequest(token_ids=token_ids),
                metadata=self.metadata(),
                timeout=self.timeout,
            ).text
