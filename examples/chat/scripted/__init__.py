"""A script that answers as a model does, over the wires of those who make models: for tests, and without a key."""
