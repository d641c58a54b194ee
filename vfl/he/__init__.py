"""Homomorphic encryption: parameters, keys, packing and ciphertext linear algebra. Only this package imports tenseal."""
