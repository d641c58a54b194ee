"""gRPC between the processes: services, codec, TLS, inbox, deadlines. Only this package imports grpc."""
