"""Homomorphic encryption: parameters, keys, packing, ciphertext linear algebra. Only this package imports tenseal."""
