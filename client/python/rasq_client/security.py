"""How a client reaches a server that asks for TLS and tokens."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import re
from typing import Optional

import grpc


def _text(variable: str) -> str:
    return os.environ.get(variable, "")


def _truth(variable: str) -> bool:
    return _text(variable).lower() in ("1", "true", "t", "yes", "y")


@dataclasses.dataclass(frozen=True)
class Security:
    """Each field begins as the environment has it: RASQ_TLS, RASQ_TLS_CA and so on."""

    tls: bool = dataclasses.field(default_factory=lambda: _truth("RASQ_TLS"))
    # PEM files: who may have signed the server's certificate (empty: the system's); the client's own.
    ca: str = dataclasses.field(default_factory=lambda: _text("RASQ_TLS_CA"))
    cert: str = dataclasses.field(default_factory=lambda: _text("RASQ_TLS_CERT"))
    key: str = dataclasses.field(default_factory=lambda: _text("RASQ_TLS_KEY"))
    token: str = dataclasses.field(default_factory=lambda: _text("RASQ_TOKEN"), repr=False)
    # Its first line is the token, read again for each call: it may be replaced while a client runs.
    token_file: str = dataclasses.field(default_factory=lambda: _text("RASQ_TOKEN_FILE"))
    insecure: bool = dataclasses.field(default_factory=lambda: _truth("RASQ_INSECURE"))

    def wants_tls(self) -> bool:
        return bool(self.tls or self.ca or self.cert or self.key)

    def credentials(self) -> Optional[grpc.ChannelCredentials]:
        """None: a channel in the clear. OSError names a file that cannot be read."""
        if not self.wants_tls():
            return None
        if bool(self.cert) != bool(self.key):
            raise ValueError("cert, key: one needs the other")

        def read(path: str) -> Optional[bytes]:
            return pathlib.Path(path).read_bytes() if path else None

        return grpc.ssl_channel_credentials(read(self.ca), read(self.key), read(self.cert))

    def token_for(self, address: str) -> str:
        """The token to send there; ValueError if it would pass a network in the clear."""
        token = self.token
        if self.token_file:
            token = pathlib.Path(self.token_file).read_text(encoding="utf-8").split("\n", 1)[0].strip()
        if not re.fullmatch(r"[!-~]*", token):
            raise ValueError("token: must be visible ASCII characters")
        if token and not self.wants_tls() and not self.insecure and not is_local(address):
            raise ValueError(
                f"address={address}: without TLS the token would pass the network in the clear; "
                "tls=True, or insecure=True to allow it"
            )
        return token


def is_local(address: str) -> bool:
    """Whether a gRPC address is this machine's own: localhost, 127.x, ::1 or a Unix socket."""
    if address.startswith("unix:"):
        return True
    for scheme in ("dns:///", "dns:", "ipv4:", "ipv6:"):
        if address.startswith(scheme):
            address = address[len(scheme) :]
            break
    if "," in address:  # the first of several does not speak for the others
        return False
    if address.startswith("["):
        return address.startswith("[::1]")
    host = address.partition(":")[0]
    return host == "localhost" or re.fullmatch(r"127\.[0-9.]*", host) is not None
