"""What runs a graph fast: kernels that numba compiles for the machine at hand."""
