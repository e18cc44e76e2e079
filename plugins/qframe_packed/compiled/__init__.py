"""Kernels that run a graph, compiled by numba for this processor.

A graph becomes a schedule of kernels. Each is an instance of a class that declares it: its
parameters as fields, its label, and its function. A function is compiled when a model needs
it. In a session the fields become records, and a compiled program runs a table: the address
of a function and of a record in each row. A matrix product is followed by its epilogue: a
table of stages that runs on a few pixels at a time.

An operation of `qframe.deployment.graph` that ``qframe_packed.graph`` has in its table runs
by the NumPy reference, until it has a kernel:

1. The module of its kernel, or ``elementwise`` for a function of each number, which is a
   stage, and needs no second file.
2. ``scheduling``: the case that schedules the kernel.
"""
