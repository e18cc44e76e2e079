"""A model as it is deployed: operations on tensors of integers or floats, without Keras."""
