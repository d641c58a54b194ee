"""Makes a process of vfl's own speak TLS 1.3 only. Imports no grpc: it has to run before gRPC is imported."""

from __future__ import annotations

import os
import sys

from vfl.errors import InternalError


def require_tls_1_3() -> None:
    """For processes that vfl starts itself, such as ``vfl party``; a host program's own gRPC is left alone.

    gRPC for Python has no option for the lowest version of TLS. It reads this list of TLS 1.2 suites when it is
    imported; the only one in it needs a pre-shared key, which nobody has, so that nothing but TLS 1.3 can be
    negotiated. TLS 1.3 has suites of its own, which the list does not touch. Inside a host program the server still
    refuses every call that comes over an older TLS (``vfl.transport.access``), see ADR 0014.

    Raises:
        InternalError: gRPC was imported before, so that it would not hold.
    """
    if "grpc" in sys.modules:
        raise InternalError("gRPC was imported before TLS 1.3 was required", remedy="please report it")
    os.environ["GRPC_SSL_CIPHER_SUITES"] = "PSK-AES128-CBC-SHA"
