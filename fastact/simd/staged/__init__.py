"""A compiler of kernels' Python code to LLVM in one pass, without type inference: partial evaluation of syntax trees.

Numba infers the types of every helper, lowers and optimizes each by itself: 3 s for a softmax, a tenth of that here. What
is known when a kernel is built, such as strides, operands and closures, is computed by Python; only what depends on the
kernel's arguments becomes LLVM code. Calls are inlined, loops over known ranges unrolled, and variables are values in
static single assignment form from the start.

Functions are those that Numba compiles too: it remains the compiler of users' functions, and of fastact's functions in
users' code.
"""
