"""gRPC between the processes: services, codec, TLS, inbox, timeouts. Only this package imports grpc."""
