"""Client of Rasq: text goes into a session for as long as it comes, answers come out at any moment.

    from rasq_client import Client

    with Client("127.0.0.1:50051") as rasq:
        rasq.create_session("news")
        with rasq.append_stream("news") as stream:
            for line in open("wire.txt"):
                stream.write(line)
        print(rasq.generate("news", "Question: Where is Ann?\\nAnswer:").text())

`AsyncClient` is the same for asyncio. Messages are those of proto/rasq/v1.
"""

from rasq.v1.model_pb2 import GetModelResponse as Model
from rasq.v1.model_pb2 import GetServerInfoResponse as ServerInfo
from rasq.v1.session_pb2 import (
    AppendResponse,
    Evidence,
    FinishReason,
    GeneratedToken,
    GenerateSummary,
    SamplingOptions,
    Session,
    SessionOptions,
    SessionState,
    Snapshot,
    StopOptions,
    Strategy,
)
from rasq_client.aio import AsyncAppendStream, AsyncClient, AsyncGeneration
from rasq_client.append_stream import AppendStream
from rasq_client.client import Client, Generation
from rasq_client.errors import RasqError
from rasq_client.pieces import AppendProgress, StreamLimits
from rasq_client.requests import Embeddings
from rasq_client.security import Security

__all__ = [
    "AppendProgress",
    "AppendResponse",
    "AppendStream",
    "AsyncAppendStream",
    "AsyncClient",
    "AsyncGeneration",
    "Client",
    "Embeddings",
    "Evidence",
    "FinishReason",
    "GenerateSummary",
    "GeneratedToken",
    "Generation",
    "Model",
    "RasqError",
    "SamplingOptions",
    "Security",
    "ServerInfo",
    "Session",
    "SessionOptions",
    "SessionState",
    "Snapshot",
    "StopOptions",
    "Strategy",
    "StreamLimits",
]
