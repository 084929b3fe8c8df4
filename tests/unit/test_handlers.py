"""The handlers that no HTTP request reaches, on memory; and what the wiring says of a secret."""

from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest
from botocore.stub import Stubber

from sandkeeper import wiring
from sandkeeper.adapters.s3 import object_key
from sandkeeper.errors import NotConfigured, StoreUnavailable
from sandkeeper.handlers import CleanupHandler, EventFailed, IngestHandler
from sandkeeper.model import ChatKey, FileStatus
from sandkeeper.settings import CleanupSettings
from sandkeeper.wiring import CleanupWiring
from tests.world import CHAT, World

CONTEXT = SimpleNamespace(get_remaining_time_in_millis=lambda: 60_000, aws_request_id="request-1")


@pytest.fixture
def cleanup(world: World) -> CleanupHandler:
    """Returns the handler of the cleanup function."""
    handler = CleanupHandler()
    vars(handler._wiring)["cleanup"] = world.cleanup
    return handler


@pytest.fixture
def ingest(world: World) -> IngestHandler:
    """Returns the handler of the file-ingest function."""
    handler = IngestHandler()
    vars(handler._wiring)["ingest"] = world.ingest
    return handler


def created(*keys: str) -> dict[str, Any]:
    """Returns S3's event for these objects: it encodes their keys once more."""
    return {"Records": [{"s3": {"object": {"key": quote_plus(key)}}} for key in keys]}


@pytest.mark.parametrize(
    ("event", "ended"), [({}, 0), ({"all": False}, 0), ({"all": "yes"}, 0), ({"all": True}, 1)]
)
def test_only_all_ends_what_is_live(
    world: World, cleanup: CleanupHandler, event: dict[str, Any], ended: int
) -> None:
    world.run()

    report = {"ended": ended, "skipped": 0, "orphans": 0, "failed": 0, "live": 1 - ended, "complete": True}
    assert cleanup(event, CONTEXT) == report


def test_cleanup_stops_before_the_functions_own_limit(world: World, cleanup: CleanupHandler) -> None:
    world.run()

    nearly_over = SimpleNamespace(get_remaining_time_in_millis=lambda: 9_999, aws_request_id="request-1")
    report = cleanup({"all": True}, nearly_over)

    assert (report["ended"], report["complete"]) == (0, False)


@pytest.mark.parametrize("owner", ["alice", "auth0|x", "a+b c%2F", "žluťoučký 🐎", ".."])
def test_an_event_leads_to_the_file_whoever_owns_it(world: World, ingest: IngestHandler, owner: str) -> None:
    key = ChatKey(owner, CHAT.chat_id)
    file = world.add_file("data.csv", b"a,b\n1,2\n", key=key, status=FileStatus.PENDING)

    assert ingest(created(object_key(key, file.file_id)), CONTEXT) == {"files": 1}
    assert world.files.get(key, file.file_id).headers == ["a", "b"]


def test_what_is_no_chats_file_is_passed_over(ingest: IngestHandler) -> None:
    assert ingest(created("artifacts/x", "files/x"), CONTEXT) == {"files": 0}
    assert ingest({}, CONTEXT) == {"files": 0}


def test_a_store_that_fails_makes_lambda_repeat_the_event(world: World, ingest: IngestHandler) -> None:
    world.taps["catalog"].fail("get", StoreUnavailable("throttled"))

    with pytest.raises(EventFailed, match="StoreUnavailable"):
        ingest(created(object_key(CHAT, "file-1")), CONTEXT)


# ── Secrets ─────────────────────────────────────────────────────────────────────────────────────────


def cleanup_wiring(**settings: str) -> CleanupWiring:
    """Returns a wiring with these settings."""
    made = CleanupWiring()
    vars(made)["settings"] = CleanupSettings(table_name="t", bucket_name="b", stack_name="s", **settings)  # type: ignore[arg-type]
    return made


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a stub of Secrets Manager."""
    client = boto3.client(
        "secretsmanager", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    monkeypatch.setattr(wiring, "_client", lambda _: client)
    with Stubber(client) as stubber:
        yield stubber


def test_the_key_to_e2b_is_taken_from_its_secret_once(secrets: Any) -> None:
    secrets.add_response("get_secret_value", {"SecretString": "e2b_secret"}, {"SecretId": "arn:secret"})
    wired = cleanup_wiring(e2b_api_key_secret_id="arn:secret")

    assert [wired.e2b_api_key, wired.e2b_api_key] == ["e2b_secret", "e2b_secret"]


def test_a_key_that_is_given_asks_no_secret(secrets: Any) -> None:
    assert cleanup_wiring(e2b_api_key="e2b_given", e2b_api_key_secret_id="arn:secret").e2b_api_key == "e2b_given"


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException"])
def test_a_secret_that_cannot_be_read_names_its_setting(secrets: Any, code: str) -> None:
    secrets.add_client_error("get_secret_value", code)

    with pytest.raises(NotConfigured, match="E2B_API_KEY_SECRET_ID"):
        cleanup_wiring(e2b_api_key_secret_id="arn:secret").e2b_api_key  # noqa: B018


def test_without_either_both_settings_are_named() -> None:
    with pytest.raises(NotConfigured, match=r"E2B_API_KEY, or E2B_API_KEY_SECRET_ID"):
        cleanup_wiring().e2b_api_key  # noqa: B018
