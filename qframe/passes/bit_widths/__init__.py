"""The loss of each layer in few bits, and the bits of each layer within a budget."""
