"""TLS for gRPC: what a process presents and requires, and the version. Importing this package does not import grpc."""
