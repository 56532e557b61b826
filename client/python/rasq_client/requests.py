"""Requests from the arguments of methods: one place for the sync client and the asyncio one."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from typing import Mapping, Optional, Sequence, Union

from rasq.v1 import session_pb2 as pb

DEFAULT_ADDRESS = "127.0.0.1:50051"


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Rows that take the place of token embeddings: bfloat16 [rows, hidden], little endian."""

    rows: int
    bfloat16: bytes


Content = Union[str, Sequence[int], Embeddings]
Labels = Optional[Mapping[str, str]]

# Calls that may be repeated: reads, and creates, which carry a request id.
_REPEATABLE = {
    "rasq.v1.SessionService": (
        "CreateSession",
        "GetSession",
        "ListSessions",
        "ForkSession",
        "RestoreSession",
        "ListSnapshots",
    ),
    "rasq.v1.ModelService": ("GetModel", "GetServerInfo", "Tokenize", "Detokenize"),
}

CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    (
        "grpc.service_config",
        json.dumps(
            {
                "methodConfig": [
                    {
                        "name": [
                            {"service": service, "method": method}
                            for service, methods in _REPEATABLE.items()
                            for method in methods
                        ],
                        "retryPolicy": {
                            "maxAttempts": 4,
                            "initialBackoff": "0.1s",
                            "maxBackoff": "2s",
                            "backoffMultiplier": 2,
                            "retryableStatusCodes": ["UNAVAILABLE"],
                        },
                    }
                ]
            }
        ),
    ),
]


def address_or_default(address: str) -> str:
    return address or os.environ.get("RASQ_ADDRESS", "") or DEFAULT_ADDRESS


def content_of(value: Content) -> pb.Content:
    if isinstance(value, str):
        return pb.Content(text=value)
    if isinstance(value, Embeddings):
        return pb.Content(embeddings=pb.Embeddings(rows=value.rows, bfloat16=value.bfloat16))
    return pb.Content(token_ids=pb.TokenIds(ids=value))


def metadata_of(session_id: str, token: str) -> list[tuple[str, str]]:
    result = [("x-rasq-session", session_id)] if session_id else []
    if token:
        result.append(("authorization", f"Bearer {token}"))
    return result


def create_request(
    session_id: str, options: Optional[pb.SessionOptions], labels: Labels
) -> pb.CreateSessionRequest:
    return pb.CreateSessionRequest(
        session_id=session_id, options=options, labels=dict(labels or {}), request_id=str(uuid.uuid4())
    )


def fork_request(session_id: str, new_session_id: str, labels: Labels) -> pb.ForkSessionRequest:
    return pb.ForkSessionRequest(
        session_id=session_id,
        new_session_id=new_session_id,
        labels=dict(labels or {}),
        request_id=str(uuid.uuid4()),
    )


def restore_request(snapshot_id: str, session_id: str, labels: Labels) -> pb.RestoreSessionRequest:
    return pb.RestoreSessionRequest(
        snapshot_id=snapshot_id,
        session_id=session_id,
        labels=dict(labels or {}),
        request_id=str(uuid.uuid4()),
    )


def append_request(
    session_id: str, content: Content, offset: Optional[int], pinned: bool, score: bool
) -> pb.AppendRequest:
    return pb.AppendRequest(
        session_id=session_id,
        content=content_of(content),
        offset=offset,
        pinned=pinned,
        score=score,
    )


def generate_request(
    session_id: str,
    prompt: Content,
    sampling: Optional[pb.SamplingOptions],
    stop: Optional[pb.StopOptions],
    commit: bool,
    logprobs: int,
    evidence: int,
) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        session_id=session_id,
        prompt=content_of(prompt) if prompt else None,
        sampling=sampling,
        stop=stop,
        commit_output=pb.COMMIT_OUTPUT_COMMIT if commit else pb.COMMIT_OUTPUT_DISCARD,
        logprobs=logprobs,
        evidence=evidence,
    )
