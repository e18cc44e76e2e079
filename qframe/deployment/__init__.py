"""From a Keras model to the graph that exporters write."""
