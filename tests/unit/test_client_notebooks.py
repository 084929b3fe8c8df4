"""The client and a chat's notebooks: what is sent for each call, and what comes back."""

from typing import Any

import httpx
import pytest

from sandkeeper_client import InvalidInput, NotFound, Unavailable
from tests.client_service import Service, accepted, ok, problem

NOTEBOOK = "/stage/api/chats/c/notebooks/nb"


def does(service: Service, act: Any) -> Any:
    """Returns what comes of an act on the notebook `nb`."""
    return service.chat_does(lambda chat: act(chat.open_notebook("nb")))


def test_a_notebook_is_made_in_the_chat(service: Service) -> None:
    service.will(ok({"notebookId": "nb", "title": "Salaries", "cells": []}, 201))

    made = service.chat_does(lambda chat: chat.create_notebook("Salaries"))

    assert made.id == "nb"
    assert service.asked == ["POST /stage/api/chats/c/notebooks"]
    assert service.bodies() == [{"title": "Salaries", "cells": []}]


def test_a_cell_is_put_at_its_end_and_run_as_a_run_that_can_be_followed(service: Service) -> None:
    service.will(ok({"cellId": "a1", "type": "code"}, 201), accepted())

    assert does(service, lambda notebook: notebook.add("1 + 1")) == "a1"
    execution = does(service, lambda notebook: notebook.run("a1", timeout=30, include=["model"]))

    assert execution.id == "run"
    assert service.asked == [f"POST {NOTEBOOK}/cells", f"POST {NOTEBOOK}/cells/a1/run"]
    assert service.bodies() == [
        {"type": "code", "source": "1 + 1", "metadata": None},
        {"mode": "async", "timeoutMs": 30_000},
    ]


def test_a_run_whose_answer_was_lost_is_asked_for_again_with_its_key(service: Service) -> None:
    service.will(httpx.ReadError, accepted())

    does(service, lambda notebook: notebook.run("a1"))

    first, again = (request.headers["idempotency-key"] for request in service.heard)
    assert first == again


def test_a_cell_whose_answer_was_lost_is_not_put_there_twice(service: Service) -> None:
    service.will(problem(502, "bad-gateway"))

    with pytest.raises(Unavailable):
        does(service, lambda notebook: notebook.add("1"))


def test_a_cell_is_replaced_whatever_it_has_said_before(service: Service) -> None:
    service.will(ok({"cellId": "a1", "type": "code"}))

    does(service, lambda notebook: notebook.replace("a1", "2", metadata={"tags": ["x"]}))

    assert service.asked == [f"PUT {NOTEBOOK}/cells/a1"]
    assert service.bodies() == [{"source": "2", "metadata": {"tags": ["x"]}}]
    assert service.heard[0].headers["if-match"] == "*"


def test_it_is_had_as_a_file(service: Service) -> None:
    service.will(ok({"nbformat": 4, "cells": []}))

    assert does(service, lambda notebook: notebook.ipynb()) == {"nbformat": 4, "cells": []}
    assert service.asked == [f"GET {NOTEBOOK}/ipynb"]


def test_one_that_is_not_there_is_told_as_such(service: Service) -> None:
    service.will(problem(404, "notebook-not-found"))

    with pytest.raises(NotFound, match="notebook-not-found"):
        does(service, lambda notebook: notebook.ipynb())


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_an_id_leads_nowhere_else(service: Service, name: str) -> None:
    with pytest.raises(InvalidInput, match="id"):
        service.chat_does(lambda chat: chat.open_notebook(name))
    with pytest.raises(InvalidInput, match="cell id"):
        does(service, lambda notebook: notebook.run(name))
    assert service.heard == []


def test_a_prompt_is_filled_with_what_is_given(service: Service) -> None:
    service.will(ok({"name": "error-recovery", "version": 1, "text": "Find the cause."}))

    text = service.chat_does(lambda chat: chat.prompt("error-recovery", executionId="run"))

    assert text == "Find the cause."
    assert service.asked == ["GET /stage/api/chats/c/prompts/error-recovery"]
    assert dict(service.heard[0].url.params) == {"executionId": "run"}
