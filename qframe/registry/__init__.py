"""How a name becomes an object: plugins, identifiers, and what they describe.

Nothing here imports Keras, and this module imports nothing: `import qframe` stays light.
"""
