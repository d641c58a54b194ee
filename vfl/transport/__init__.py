"""gRPC between processes: services, codecs, TLS, inbox, timeouts. Only this package imports grpc."""
