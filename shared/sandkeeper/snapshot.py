"""What is imported before a snapshot of the API function is taken, so that no call imports it after a restore.

The wiring imports when it needs something, since a cold start without a snapshot should pay for nothing else. Here
modules are named only: nothing is made, read from the environment, drawn or connected, as all that would be one and
the same in every copy of the snapshot.
"""

from importlib import import_module

MODULES = (
    "boto3.s3.inject",
    "botocore.client",
    "botocore.httpsession",
    "botocore.retries.standard",
    "e2b.sandbox_sync.main",
    "httpx",
    "packaging.version",
    "pydantic.dataclasses",
    "sandkeeper.adapters.aws",
    "sandkeeper.adapters.dynamodb",
    "sandkeeper.adapters.e2b",
    "sandkeeper.adapters.s3",
    "sandkeeper.adapters.s3_results",
    "sandkeeper.services.artifacts",
    "sandkeeper.services.auth",
    "sandkeeper.services.collect",
    "sandkeeper.services.control",
    "sandkeeper.services.execute",
    "sandkeeper.services.executions",
    "sandkeeper.services.files",
    "sandkeeper.services.hydrate",
    "sandkeeper.services.overflow",
    "sandkeeper.services.quota",
    "sandkeeper.services.sessions",
    "sandkeeper.telemetry",
    "ulid",
)


def import_ahead() -> None:
    """Imports what a call that runs code needs."""
    for name in MODULES:
        import_module(name)
