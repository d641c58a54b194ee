"""Arithmetic below ciphertexts: residues, transforms, sampling, primes and bit packing."""
