"""Arguments of calls: their dtypes and shapes, and arrays of any layout as kernels take them."""
