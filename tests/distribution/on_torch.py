"""Train the scenarios as one of two processes, in a custom loop, with PyTorch.

Usage: python on_torch.py FOLDER RANK PORT
"""

import os
import sys
from datetime import timedelta

import keras
import numpy as np
import torch

from distribution import document
from distribution.scenarios import BATCH, SCENARIOS, STEPS, Notes, X, Y, arrays, trained

NAMES = "ranges", "steps", "flips"


def train(model, x, y):
    parallel = torch.nn.parallel.DistributedDataParallel(model)
    for inputs, targets in zip(x, y, strict=True):
        model.zero_grad()
        outputs = parallel(torch.as_tensor(inputs), training=True)
        torch.mean((outputs - torch.as_tensor(targets)) ** 2).backward()
        variables = model.trainable_variables
        with torch.no_grad():
            model.optimizer.apply(
                [variable.value.grad for variable in variables], variables
            )
    return arrays(model)


def main(folder, rank, port):
    notes = Notes(folder, f"rank {rank}")
    for name in NAMES if rank == "0" else ():
        notes.arrays(f"{name}.one", trained(SCENARIOS[name]())[:-1])
    torch.distributed.init_process_group(
        "gloo",
        timeout=timedelta(seconds=60),
        init_method=f"tcp://127.0.0.1:{port}",
        world_size=2,
        rank=int(rank),
    )
    part = slice(int(rank) * BATCH // 2, (int(rank) + 1) * BATCH // 2)
    x, y = (np.ascontiguousarray(a.reshape(STEPS, BATCH, -1)[:, part]) for a in (X, Y))
    for name in NAMES:
        with notes.attempt(name):
            # PyTorch orders parameters by name, and Keras counts in names.
            keras.utils.clear_session(free_memory=False)
            notes.arrays(f"{name}.rank {rank}", train(SCENARIOS[name](), x, y))
    with notes.attempt("document"):
        keras.utils.clear_session(free_memory=False)
        document.run("PyTorch", model=SCENARIOS["signs"](), rank=int(rank))
    notes.write()
    torch.distributed.destroy_process_group()
    # PyTorch's threads may let go of tensors while the interpreter ends, which aborts the
    # process (pytorch/pytorch#179291). All is written, so it ends at once.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
