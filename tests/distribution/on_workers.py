"""Train the scenarios as one of two workers, in a custom loop, with TensorFlow.

Usage: python on_workers.py FOLDER RANK PORT PORT
"""

# ruff: noqa: E402
# The engine is set up before Keras is imported.

import json
import os
import sys

folder, rank, *ports = sys.argv[1:]
os.environ["TF_CONFIG"] = json.dumps(
    {
        "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
        "task": {"type": "worker", "index": int(rank)},
    }
)

import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()

from distribution import document
from distribution.scenarios import BATCH, SCENARIOS, STEPS, Notes, X, Y, arrays, trained

NAMES = "ranges", "flips"


def train(model, x, y):
    optimizer = model.optimizer

    def replica_step(x, y):
        with tf.GradientTape() as tape:
            # Of the whole batch, since gradients are added over the workers.
            loss = tf.reduce_sum((model(x, training=True) - y) ** 2) / (2 * BATCH)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        optimizer.apply(gradients, variables)

    @tf.function
    def step(x, y):
        strategy.run(replica_step, args=(x, y))

    with strategy.scope():
        optimizer.build(model.trainable_variables)
    for batch in zip(x, y, strict=True):
        step(*map(tf.constant, batch))
    return arrays(model)


def main():
    notes = Notes(folder, f"worker {rank}")
    part = slice(int(rank) * BATCH // 2, (int(rank) + 1) * BATCH // 2)
    x, y = (a.reshape(STEPS, BATCH, -1)[:, part] for a in (X, Y))
    for name in NAMES:
        with notes.attempt(name):
            if rank == "0":
                notes.arrays(f"{name}.one", trained(SCENARIOS[name]())[:-1])
            with strategy.scope():
                model = SCENARIOS[name]()
            notes.arrays(f"{name}.worker {rank}", train(model, x, y))
    with notes.attempt("document"):
        document.run("TensorFlow", "Several machines", tf=tf, strategy=strategy)
    with notes.attempt("fit"):
        model.fit(x[0], y[0], batch_size=BATCH // 2, verbose=0)
    notes.write()


if __name__ == "__main__":
    main()
