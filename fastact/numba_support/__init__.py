"""The types and overloads that make fastact callable from Numba-compiled code, and NumPy callable from activations."""
