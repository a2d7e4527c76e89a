"""Compiler, kernel cache, ufuncs, threads and the output pool."""
