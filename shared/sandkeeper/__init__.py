"""Sandkeeper: a warm Python sandbox for every chat."""

__version__ = "0.1.0"
