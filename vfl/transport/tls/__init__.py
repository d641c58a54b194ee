"""TLS of gRPC: what a process shows and demands, and the version. Importing this package does not import grpc."""
