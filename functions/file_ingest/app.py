"""Reads uploaded files as they arrive in S3."""

from sandkeeper.handlers import IngestHandler

handler = IngestHandler()
