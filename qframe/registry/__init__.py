"""Plugins, identifiers, and the objects that they describe.

No module here imports Keras when it is imported: `import qframe` stays light.
"""
