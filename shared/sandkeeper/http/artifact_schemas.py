"""What goes over the wire of artifacts."""

from collections.abc import Sequence
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from sandkeeper.http.schemas import Wire
from sandkeeper.model import Artifact, ArtifactStatus

ArtifactId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}-[0-9]{1,3}$"),
    Field(description="An artifact's id, as its run's reply tells it.", examples=["01JDK3R6T6V0Q8ZJ8M3H4X5Y7Z-0"]),
]


class ArtifactSchema(Wire):
    """A file that the run has created or changed."""

    artifact_id: ArtifactId
    path: str = Field(description="Where it is in the sandbox.")
    size: int = Field(description="In bytes.")
    mime_type: str = Field(description="By the file's name.")
    status: ArtifactStatus = Field(
        description="`stored`: it can be downloaded, also when the sandbox is gone. `pending`: it will be, once"
        " somebody asks for the run or uses the session. `skipped`: it is in the sandbox alone."
    )
    reason: str | None = Field(description="Why it was skipped.")

    @classmethod
    def of(cls, artifact: Artifact) -> "ArtifactSchema":
        """Returns the artifact as it goes over the wire."""
        return cls(
            artifact_id=artifact.artifact_id,
            path=artifact.path,
            size=artifact.size_bytes,
            mime_type=artifact.mime_type,
            status=artifact.status,
            reason=artifact.reason,
        )


class ListedArtifact(Wire):
    """A stored file that a run has created or changed."""

    artifact_id: ArtifactId
    execution_id: str = Field(description="The run.")
    path: str = Field(description="Where it was in the sandbox.")
    version: int = Field(description="Counts the chat's artifacts of this path, from 1.")
    size: int = Field(description="In bytes.")
    mime_type: str = Field(description="By the file's name.")
    created_at: AwareDatetime = Field(description="When the run ended.")


class ArtifactList(Wire):
    """The chat's artifacts, those of the latest run first."""

    artifacts: list[ListedArtifact]
    next: str | None = Field(description="Give this as `next` to get those that follow; null at the end.")

    @classmethod
    def of(cls, found: Sequence[tuple[Artifact, int]], *, is_last: bool) -> "ArtifactList":
        """Returns artifacts, each with its version, as they go over the wire."""
        listed = [
            ListedArtifact(
                artifact_id=artifact.artifact_id,
                execution_id=artifact.execution_id,
                path=artifact.path,
                version=version,
                size=artifact.size_bytes,
                mime_type=artifact.mime_type,
                created_at=artifact.created_at,
            )
            for artifact, version in found
        ]
        return cls(artifacts=listed, next=None if is_last or not listed else listed[-1].artifact_id)
