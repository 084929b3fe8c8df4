"""The runner in a sandbox, as handlers see it: how it gets there, and how it is talked to."""
