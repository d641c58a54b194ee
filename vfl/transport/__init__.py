"""gRPC between the processes: services, codec, TLS, inbox, deadlines. Only this package imports grpc."""

import os

# gRPC for Python has no option for the lowest version of TLS. It reads this list of TLS 1.2 suites when it first makes
# credentials; the only one in it needs a pre-shared key, which nobody has, so that nothing but TLS 1.3 can be
# negotiated. TLS 1.3 has suites of its own, which the list does not touch (ADR 0014).
os.environ["GRPC_SSL_CIPHER_SUITES"] = "PSK-AES128-CBC-SHA"
