"""Certificates, private keys, trust and signed statements. Needs no gRPC."""
