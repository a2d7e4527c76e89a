"""From functions to machine code and to ufuncs: the compiler and its cache, the thread pool, memory for outputs."""
