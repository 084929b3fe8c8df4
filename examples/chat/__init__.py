"""A chat whose model writes the code: it runs as cells of a notebook, and the model is told what came of it."""
