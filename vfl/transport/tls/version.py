"""Restricts vfl's own processes to TLS 1.3. Does not import grpc, since it must run before gRPC is imported."""

from __future__ import annotations

import os
import sys

from vfl.errors import InternalError


def require_tls_1_3() -> None:
    """Allow only TLS 1.3 in processes that vfl starts itself, such as ``vfl party``; do not use it in host programs.

    gRPC for Python has no option for the minimum TLS version. It reads this list of TLS 1.2 suites when it is imported.
    The only suite in it requires a pre-shared key, which nobody has, so that only TLS 1.3 can be negotiated. TLS 1.3
    has its own suites, which the list does not affect. In a host program, the server still refuses every call that
    arrives over an older TLS (``vfl.transport.access``), see ADR 0014.

    Raises:
        InternalError: gRPC has already been imported, so that the restriction would have no effect.
    """
    if "grpc" in sys.modules:
        raise InternalError("gRPC was imported before TLS 1.3 was required", remedy="please report it")
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "PSK-AES128-CBC-SHA"
