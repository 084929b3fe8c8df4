"""Notebooks over HTTP, with cells that real kernels run: as editors, followers and Jupyter see them."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import httpx_sse
import nbformat
import pytest
from nbclient import NotebookClient

from local.project import SAMPLE
from tests.e2e import test_history
from tests.e2e.conftest import Chat
from tests.e2e.runs import Event, gateway_to
from tests.stack import RunningStack

PLOT = "import matplotlib.pyplot as plt\nplt.bar(['a', 'b'], [1, 2])\nplt.show()"
SLOW = "import time\nfor number in range(6):\n    print('step', number, flush=True)\n    time.sleep(0.4)"
WITHIN_S = 60

kernels = test_history.kernels


class Notebook:
    """A notebook of the chat, as a client of the API holds it."""

    def __init__(self, chat: Chat, cells: dict[str, str]) -> None:
        self.chat, self.client = chat, chat.client
        body = {"title": "End to end", "cells": [{"cellId": name, "source": code} for name, code in cells.items()]}
        reply = self.client.post(f"{chat.url}/notebooks", json=body)
        assert reply.status_code == 201, reply.text
        self.url = reply.headers["location"]

    def read(self) -> dict[str, Any]:
        """Returns the notebook."""
        answer: dict[str, Any] = self.client.get(self.url).raise_for_status().json()
        return answer

    def cell(self, cell_id: str) -> dict[str, Any]:
        """Returns a cell as the notebook has it."""
        return next(cell for cell in self.read()["cells"] if cell["cellId"] == cell_id)

    def run(self, cell_id: str, **fields: Any) -> httpx.Response:
        """Runs a cell, and returns whatever is answered."""
        return self.client.post(f"{self.url}/cells/{cell_id}/run", json=fields)

    def put_cell(self, cell_id: str, source: str, etag: str) -> httpx.Response:
        """Edits a cell."""
        url = f"{self.url}/cells/{cell_id}"
        return self.client.put(url, json={"source": source}, headers={"If-Match": etag})

    def connection(
        self, last: str | None, client: httpx.Client | None = None, *, first: str = "1"
    ) -> Iterator[Event]:
        """Yields the events of one connection."""
        headers = {} if last is None else {"Last-Event-ID": last}
        with httpx_sse.connect_sse(
            client or self.client, "GET", f"{self.url}/events", headers=headers, params={"after": first}
        ) as events:
            yield from (Event(each.id, each.event, each.data) for each in events.iter_sse())

    def follow(self, until: str, count: int = 1, client: httpx.Client | None = None) -> list[Event]:
        """Returns the events up to so many of a kind, in as many connections as it takes."""
        seen: list[Event] = []
        deadline = time.monotonic() + WITHIN_S
        while sum(event.event == until for event in seen) < count:
            assert time.monotonic() < deadline, f"no {until!r} among {[event.event for event in seen]}"
            for event in self.connection(seen[-1].id if seen else None, client):
                assert event.id not in {each.id for each in seen}, "an event came twice"
                seen.append(event)
                if sum(each.event == until for each in seen) == count:
                    break
        return seen


def printed(events: list[Event]) -> str:
    """Returns what cells have printed while they ran."""
    outputs = [event.told["results"] for event in events if event.event == "cell.output"]
    return "".join(item["content"] for results in outputs for item in results if item["type"] == "text")


def test_a_cell_runs_in_the_chats_session_and_shows_its_plot(chat: Chat) -> None:
    chat.run("from_execute = 40")
    notebook = Notebook(chat, {"plot": PLOT, "value": "from_execute + 2"})

    answers = [notebook.run(cell_id).raise_for_status().json() for cell_id in ("plot", "value")]

    assert [answer["success"] for answer in answers] == [True, True]
    (plot,), (value,) = (answer["cell"]["outputs"] for answer in answers)
    assert len(plot["data"]["image/png"]) > 1_000
    assert (value["output_type"], value["data"]["text/plain"], value["execution_count"]) == (
        "execute_result",
        "42",
        3,
    )
    assert notebook.read()["cells"] == [answer["cell"] for answer in answers]
    history = chat.client.get(f"{chat.url}/executions").json()["executions"]
    assert [run["code"] for run in history] == ["from_execute + 2", PLOT, "from_execute = 40"]


def test_of_two_tabs_the_second_is_told_what_the_first_has_done(chat: Chat) -> None:
    notebook = Notebook(chat, {"a": "1", "b": "2"})
    seen = notebook.cell("a")["etag"]

    first, second = (notebook.put_cell("a", source, seen) for source in ("first", "second"))
    other = notebook.put_cell("b", "theirs", notebook.cell("b")["etag"])

    assert (first.status_code, second.status_code, other.status_code) == (200, 412, 200)
    assert second.json()["type"] == "urn:sandkeeper:problem:version-stale"
    assert second.headers["etag"] == first.headers["etag"]
    assert [cell["source"] for cell in notebook.read()["cells"]] == ["first", "theirs"]


def test_of_many_who_edit_one_cell_at_once_one_wins_and_of_different_cells_all(
    chat: Chat, stack: RunningStack
) -> None:
    names = [f"c{number}" for number in range(8)]
    notebook = Notebook(chat, dict.fromkeys(names, "0"))

    def at_once(cells: list[str]) -> list[int]:
        statuses: list[int] = []

        def edit(cell_id: str, source: str) -> None:
            with stack.client() as client:
                url = f"{notebook.url}/cells/{cell_id}"
                reply = client.put(url, json={"source": source}, headers={"If-Match": etags[cell_id]})
                statuses.append(reply.status_code)

        etags = {cell["cellId"]: cell["etag"] for cell in notebook.read()["cells"]}
        threads = [threading.Thread(target=edit, args=(cell, f"by {number}")) for number, cell in enumerate(cells)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(statuses)

    assert at_once(["c0"] * 8) == [200, *[412] * 7]
    assert at_once(names) == [200] * 8
    assert [cell["source"] for cell in notebook.read()["cells"]] == [f"by {number}" for number in range(8)]


def test_all_cells_run_up_to_the_one_that_fails(chat: Chat) -> None:
    notebook = Notebook(chat, {"one": "x = 1\nx", "two": "x / 0", "three": "x"})

    answer = notebook.client.post(f"{notebook.url}/run", json={}).raise_for_status().json()

    runs = {cell["cellId"]: cell["lastRun"] for cell in answer["cells"]}
    assert (runs["one"]["success"], runs["two"]["success"], runs["three"]) == (True, False, None)
    assert answer["cells"][1]["outputs"][0]["ename"] == "ZeroDivisionError"
    assert answer["plan"] is None


def test_a_cell_is_followed_while_it_runs_and_on_from_the_middle(chat: Chat) -> None:
    notebook = Notebook(chat, {"slow": SLOW, "other": "1"})
    chat.run("1")
    assert notebook.run("slow", mode="async").status_code == 202
    first: list[Event] = []
    for event in notebook.connection(None):
        first.append(event)
        if printed(first).count("step") >= 2:
            break
    notebook.put_cell("other", "edited", "*").raise_for_status()

    rest: list[Event] = []
    while not rest or rest[-1].event != "cell.finished":
        rest += to_the_end(notebook, (rest or first)[-1].id)

    assert first[0].event == "cell.started"
    assert not {event.id for event in first} & {event.id for event in rest}
    assert printed(first + rest) == "".join(f"step {number}\n" for number in range(6))
    assert "cell.updated" in [event.event for event in rest]
    assert rest[-1].told["cell"]["outputs"][0]["text"] == printed(first + rest)


def to_the_end(notebook: Notebook, last: str) -> list[Event]:
    """Returns the events behind this one until a cell has finished, or the connection ends."""
    seen: list[Event] = []
    for event in notebook.connection(last):
        seen.append(event)
        if event.event == "cell.finished":
            break
    return seen


def test_whoever_follows_moves_all_cells_on(chat: Chat) -> None:
    notebook = Notebook(chat, {"one": "x = 1", "two": "print(x + 1)", "three": "print(x + 2)"})
    reply = notebook.client.post(f"{notebook.url}/run", json={"mode": "async"})
    assert reply.status_code == 202, reply.text

    events = notebook.follow("cell.finished", 3)

    assert [event.told["cellId"] for event in events if event.event == "cell.started"] == ["one", "two", "three"]
    assert events[-1].told["plan"] is None
    assert [cell["outputs"][0]["text"] for cell in notebook.read()["cells"][1:]] == ["2\n", "3\n"]


def test_a_gateway_that_passes_replies_on_whole_tells_the_same(chat: Chat, stack: RunningStack) -> None:
    notebook = Notebook(chat, {"slow": SLOW})
    with gateway_to(stack.api_url) as gateway:
        headers = {"Authorization": f"Bearer {stack.api_key}"}
        with httpx.Client(base_url=gateway.url, headers=headers, timeout=60, trust_env=False) as client:
            assert notebook.run("slow", mode="async").status_code == 202
            events = list(notebook.connection(None, client))

    assert gateway.cut == []
    assert printed(events) == "".join(f"step {number}\n" for number in range(6))


def test_a_notebook_goes_out_to_jupyter_and_comes_back(chat: Chat, kernels: str, tmp_path: Path) -> None:
    chat.upload("employee_data.csv", SAMPLE.read_bytes())
    code = {
        "load": "import pandas as pd\ntable = pd.read_csv('employee_data.csv')",
        "show": "table.shape",
        "plot": PLOT,
    }
    notebook = Notebook(chat, code)
    notebook.client.post(f"{notebook.url}/run", json={}).raise_for_status()

    file = notebook.client.get(f"{notebook.url}/ipynb").raise_for_status().json()
    made: Any = nbformat.from_dict(file)  # type: ignore[no-untyped-call]
    nbformat.validate(made)
    (tmp_path / "employee_data.csv").write_bytes(SAMPLE.read_bytes())
    again: Any = nbformat.from_dict(json.loads(json.dumps(file)))  # type: ignore[no-untyped-call]
    NotebookClient(
        again, timeout=60, kernel_name=kernels, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()

    assert [cell.outputs[0].data["text/plain"] for cell in (made.cells[1], again.cells[1])] == ["(15, 7)"] * 2
    assert "image/png" in again.cells[2].outputs[0].data
    back = notebook.client.post(f"{chat.url}/notebooks/import", json=json.loads(nbformat.writes(again)))  # type: ignore[no-untyped-call]
    assert back.status_code == 201, back.text
    assert [cell["source"] for cell in back.json()["cells"]] == [*code.values()]
    assert "image/png" in back.json()["cells"][2]["outputs"][0]["data"]


def test_what_runs_is_stopped_and_keeps_its_variables(chat: Chat) -> None:
    notebook = Notebook(chat, {"endless": "kept = 1\nwhile True: pass", "after": "kept"})
    notebook.client.post(f"{notebook.url}/run", json={"mode": "async"}).raise_for_status()
    time.sleep(0.5)

    stopped = notebook.client.post(f"{notebook.url}/stop").raise_for_status().json()

    assert (stopped["plan"], stopped["cells"][0]["lastRun"]["success"]) == (None, False)
    assert notebook.run("after").json()["cell"]["outputs"][0]["data"]["text/plain"] == "1"


@pytest.mark.parametrize(
    "document", [{"nbformat": 3, "cells": []}, {"nbformat": 4, "cells": [{"cell_type": "sql"}]}]
)
def test_what_is_no_notebook_is_refused(chat: Chat, document: dict[str, Any]) -> None:
    reply = chat.client.post(f"{chat.url}/notebooks/import", json=document)

    assert (reply.status_code, reply.json()["type"]) == (422, "urn:sandkeeper:problem:invalid-request")
