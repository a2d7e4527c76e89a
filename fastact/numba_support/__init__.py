"""What Numba has to know of fastact, in other people's compiled code and in their own activations."""
