"""One frozen settings model per function. A field's environment variable is its name in capitals.

Locally and in the cloud the same code runs: only these values differ.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sandkeeper.errors import NotConfigured
from sandkeeper.model import Lifetimes

MaybeText = Annotated[str | None, BeforeValidator(lambda value: value or None)]
"""An empty variable is as good as none: templates cannot leave a variable out."""


SHORTEST_PAUSE_MS = 15_000
"""Sandboxes that paused sooner would have to be resumed for nearly every call."""


def _pause(milliseconds: int) -> int:
    if 0 < milliseconds < SHORTEST_PAUSE_MS:
        raise ValueError(f"should be 0 (never pause) or at least {SHORTEST_PAUSE_MS}")
    return milliseconds


class Settings(BaseModel):
    """What all functions share. Attributes ending in `_timeout` are milliseconds, as their variables are."""

    # Of all settings that there are, a function reads one kind: the others are never built.
    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    table_name: str = Field(min_length=1)

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """Returns the settings. Raises `NotConfigured`, which names the variables that are missing or wrong."""
        names = {name.upper(): name for name in cls.model_fields}
        given = {names[key]: value for key, value in environment.items() if key in names}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, problem['loc'])).upper()}: {problem['msg']}" for problem in error.errors()
            )
            raise NotConfigured(f"the function's environment is not usable: {wrong}") from error


class SandboxSettings(Settings):
    """What a function needs that talks to E2B."""

    stack_name: str = Field(min_length=1, max_length=64)
    bucket_name: str = Field(min_length=1)
    e2b_api_key: MaybeText = Field(default=None, repr=False)
    e2b_api_key_secret_id: MaybeText = None
    """The Secrets Manager secret that holds the key, where `e2b_api_key` is not given."""
    e2b_api_url: MaybeText = None
    e2b_sandbox_url: MaybeText = None
    e2b_template: str = "code-interpreter-v1"
    e2b_session_timeout: int = Field(default=1_800_000, ge=60_000, le=82_800_000)

    e2b_idle_pause: Annotated[int, AfterValidator(_pause)] = Field(default=300_000, ge=0, le=82_800_000)

    @property
    def lifetimes(self) -> Lifetimes:
        """Returns how long sessions and their sandboxes last."""
        return Lifetimes(
            session_timeout=timedelta(milliseconds=self.e2b_session_timeout),
            idle_pause=timedelta(milliseconds=self.e2b_idle_pause),
        )


class ApiSettings(SandboxSettings):
    """The API function's settings."""

    e2b_sandbox_timeout: int = Field(default=60_000, ge=1_000, le=3_600_000)
    """The limit of a run whose request names none."""
    jwt_issuer: MaybeText = None
    jwt_audience: MaybeText = None
    jwt_jwks_url: MaybeText = None
    jwt_secret: MaybeText = Field(default=None, repr=False)
    jwt_secret_id: MaybeText = None
    max_sessions_per_owner: int = Field(default=20, ge=1, le=100)
    max_file_bytes: int = Field(default=104_857_600, ge=1)
    max_files_per_chat: int = Field(default=50, ge=1, le=100)
    """All files of a chat may have to be noted in one update, whose expression DynamoDB bounds at 4 KB."""


class McpSettings(ApiSettings):
    """The MCP function's settings."""

    allowed_origins: str = "*"
    """Which pages' browsers may call, with commas: origins, `scheme://host:*` for any port, `*` for all."""


class CleanupSettings(SandboxSettings):
    """The cleanup function's settings."""


class IngestSettings(Settings):
    """The file-ingest function's settings."""

    bucket_name: str = Field(min_length=1)
