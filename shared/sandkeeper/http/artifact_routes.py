"""The endpoints of artifacts: which files runs have left behind, and where to download them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Security
from fastapi.responses import RedirectResponse

from sandkeeper.errors import FieldProblem, InvalidRequest
from sandkeeper.http.artifact_schemas import ArtifactId, ArtifactList
from sandkeeper.http.gate import GatedRoute
from sandkeeper.http.problems import documented
from sandkeeper.http.routes import Chat, Wired, bearer

DOWNLOAD_WITHIN = timedelta(minutes=15)

gated = APIRouter(route_class=GatedRoute, dependencies=[Security(bearer)], tags=["artifacts"])

ArtifactInPath = Annotated[ArtifactId, Path(alias="artifactId")]
Limit = Annotated[int, Query(ge=1, le=200, description="How many artifacts to return at most.")]
Next = Annotated[str | None, Query(max_length=300, description="What the reply before this one gave as `next`.")]


@gated.get("/api/chats/{chatId}/artifacts", responses=documented(422))
def list_artifacts(chat: Chat, wiring: Wired, limit: Limit = 100, next: Next = None) -> ArtifactList:  # noqa: A002
    """Returns the files that the chat's runs have created or changed: those of the latest run first."""
    found = wiring.artifacts.of_chat(chat)
    begin = 0 if next is None else _place_of(next, [artifact.artifact_id for artifact, _ in found])
    return ArtifactList.of(found[begin : begin + limit], is_last=len(found) <= begin + limit)


def _place_of(last: str, ids: Sequence[str]) -> int:
    """Returns where the page begins that comes after this artifact."""
    if last in ids:
        return ids.index(last) + 1
    detail = f"next {last!r} is not what an earlier reply gave; leave it out to start from the latest run"
    raise InvalidRequest(detail, [FieldProblem("query/next", detail)])


@gated.get(
    "/api/chats/{chatId}/artifacts/{artifactId}",
    status_code=302,
    responses={
        **documented(404, 422),
        302: {
            "description": "The content, at a URL that holds for 15 minutes and needs no token.",
            "headers": {"Location": {"schema": {"type": "string"}}},
        },
    },
    response_class=RedirectResponse,
)
def download_artifact(chat: Chat, artifact_id: ArtifactInPath, wiring: Wired) -> RedirectResponse:
    """Leads to the artifact's content, byte for byte as it was at the end of its run."""
    artifact = wiring.executions.artifact(chat, artifact_id)
    return RedirectResponse(wiring.artifacts.url(artifact, lasts=DOWNLOAD_WITHIN), status_code=302)
