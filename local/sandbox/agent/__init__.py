"""The agent: the one program of ours inside a sandbox.

It speaks envd (files, file system and process RPC) and the code interpreter over one Unix socket, and owns the
kernels. It runs with the Python that the sandbox's users see, so it imports little and late.
"""
