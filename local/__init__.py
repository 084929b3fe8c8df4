"""The whole service on one machine, for development, tests and demonstrations."""
