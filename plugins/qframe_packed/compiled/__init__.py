"""Kernels that run a graph, compiled by numba for this processor.

A graph becomes a schedule of kernels. Each is an instance of a class that declares it: its
parameters as fields, its label, and its function. In a session the fields become records,
and a compiled program runs a table of them. A matrix product is followed by its epilogue: a
table of stages that runs on a few pixels at a time.

A new operation touches four files:

1. ``operations``: its fields, and the shape and the span of its result.
2. ``reference``: its result by NumPy. It runs there until the next two steps are done.
3. The module of its kernel, or ``elementwise`` for a function of each number, which is a
   stage, and needs no fourth file.
4. ``scheduling``: the kernel in ``KERNELS``, and the case that schedules it.
"""
