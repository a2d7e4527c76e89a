"""Count the instructions of every function's inner loop, for processors that need not be at hand.

    python -m benchmarks.throughput
    python -m benchmarks.throughput sigmoid math.exp --processor "Zen 4"

Kernels are compiled for each processor, and LLVM's models of them (``llvm-mca``, in Debian's package llvm-19) say how long
the code takes that runs for a block of contiguous elements. All is of float32: value and gradient of an activation
(`forward_backward`), the value of the functions of `fastact.math`.
"""
