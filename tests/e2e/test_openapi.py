"""The served API does what its OpenAPI document says, whatever is sent to it."""

import json
import uuid
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from sandkeeper.http.execute_schemas import INLINE_MS
from tests.stack import RunningStack

CHATS = ("open.api:1", "open-api_2")
"""Generated chat ids are mapped to these, so that the run makes two sandboxes rather than hundreds."""

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    positive_data_acceptance,
    unsupported_method,
]


MORE_RULES_THAN_SCHEMA = [
    # A file name's limit is in bytes, its path parts do not count, and a deployment sets the largest size.
    ("POST /api/chats/{chatId}/files", positive_data_acceptance),
    # What a requirement is, PEP 508 says.
    ("POST /api/chats/{chatId}/packages", positive_data_acceptance),
    # `next` comes from an earlier reply.
    ("GET /api/sessions", positive_data_acceptance),
    ("GET /api/chats/{chatId}/executions", positive_data_acceptance),
    ("GET /api/chats/{chatId}/artifacts", positive_data_acceptance),
    ("GET /api/chats/{chatId}/notebooks", positive_data_acceptance),
    # Cells' ids differ and have one place, a file is of nbformat 4, `If-Match` comes from an earlier reply.
    ("POST /api/chats/{chatId}/notebooks", positive_data_acceptance),
    ("POST /api/chats/{chatId}/notebooks/import", positive_data_acceptance),
    ("PUT /api/chats/{chatId}/notebooks/{notebookId}", positive_data_acceptance),
    ("DELETE /api/chats/{chatId}/notebooks/{notebookId}", positive_data_acceptance),
    ("POST /api/chats/{chatId}/notebooks/{notebookId}/cells", positive_data_acceptance),
    ("PUT /api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}", positive_data_acceptance),
    ("DELETE /api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}", positive_data_acceptance),
    ("POST /api/chats/{chatId}/notebooks/{notebookId}/cells/{cellId}/run", positive_data_acceptance),
    ("GET /api/chats/{chatId}/notebooks/{notebookId}/events", positive_data_acceptance),
    # Each prompt has arguments of its own.
    ("GET /api/chats/{chatId}/prompts/{promptName}", positive_data_acceptance),
    # `Last-Event-ID` comes from an event.
    ("GET /api/chats/{chatId}/executions/{executionId}/events", positive_data_acceptance),
]
"""Where good data by the schema may be refused all the same."""

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi.json"

schema = schemathesis.openapi.from_path(DOCUMENT)


def test_the_served_document_is_the_kept_one(stack: RunningStack) -> None:
    with stack.client() as client:
        assert client.get("/openapi.json").json() == json.loads(DOCUMENT.read_text())


def _examples(count: int) -> settings:
    """Returns how many requests to make up for each operation, the same ones every time."""
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


@schema.exclude(path_regex="/packages$").parametrize()
@_examples(40)
def test_the_api_keeps_to_its_document(case: Case[Any], stack: RunningStack) -> None:
    """No 5xx, no undocumented reply, no bad request accepted and no good one refused."""
    _check(case, stack)


@schema.include(path_regex="/packages$").parametrize()
@_examples(10)
def test_packages_keep_to_the_document(case: Case[Any], stack: RunningStack) -> None:
    """As above; fewer, because pip looks for each name that is made up."""
    _check(case, stack)


def _check(case: Case[Any], stack: RunningStack) -> None:
    _share_chats(case)
    _name_each_request_anew(case)
    _end_within_the_call(case)
    checks = [check for check in CHECKS if (case.operation.label, check) not in MORE_RULES_THAN_SCHEMA]
    case.call_and_validate(
        base_url=stack.api_url,
        checks=checks,
        headers={"Authorization": f"Bearer {stack.api_key}"},
        timeout=40,
    )


def _share_chats(case: Case[Any]) -> None:
    for holder in (case.body, case.query, case.path_parameters):
        if isinstance(holder, dict):
            chat_id = holder.get("chatId")
            if isinstance(chat_id, str) and case.meta is not None and case.meta.generation.mode.is_positive:
                holder["chatId"] = CHATS[len(chat_id) % 2]


def _end_within_the_call(case: Case[Any]) -> None:
    """Code of mode `inline` has a lower limit than other code, which the schema of one field cannot say."""
    is_sound = case.meta is not None and case.meta.generation.mode.is_positive
    if is_sound and isinstance(case.body, dict) and case.body.get("mode") == "inline":
        case.body["timeoutMs"] = INLINE_MS


def _name_each_request_anew(case: Case[Any]) -> None:
    """A key stands for one body, and short ones are made up again and again."""
    if "Idempotency-Key" in case.headers and case.meta is not None and case.meta.generation.mode.is_positive:
        case.headers["Idempotency-Key"] = str(uuid.uuid4())
