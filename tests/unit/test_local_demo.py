"""The demo checks what it is told: one wrong answer fails it, at the step where it came, and says so."""

import base64
import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from local import demo, story
from local.show import Show

CHART = {"elements": [{"label": name, "value": count} for name, count in demo.HEADCOUNT.items()]}
COUNTS = "".join(f"{name:18}{count}\n" for name, count in demo.HEADCOUNT.items())
KEPT = "lap >= 3, trained"
PICTURE = base64.b64encode(demo.PNG).decode()


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "mimeType": "text/plain", "content": content}


def answer(status: str, *results: dict[str, Any]) -> dict[str, Any]:
    return {
        "success": True,
        "results": list(results),
        "error": None,
        "sandboxId": "sbx",
        "uploadedFiles": ["/home/user/employee_data.csv"],
        "session": {"status": status, "stateReset": False},
        "artifacts": [],
        "timings": {"runMs": 7},
    }


WORKBOOK = demo.ZIP + b"a workbook"
REPORT = {
    "artifactId": "run-0",
    "path": "/home/user/report.xlsx",
    "mimeType": demo.SPREADSHEET,
    "size": len(WORKBOOK),
    "status": "stored",
}

ANSWERS: dict[str, dict[str, Any]] = {
    story.LOOK_AROUND: answer("new", text("Python 3.13.1 in /home/user with ['employee_data.csv']\n")),
    story.ANALYSE: answer("reused", text(f"shape (15, 7)\naverage salary 83666.67\n{COUNTS}")),
    story.ASK_AGAIN: answer("reused", text("Finance  88500.00\nEngineering  105200.00\n")),
    story.DRAW: answer(
        "reused",
        {"type": "image", "mimeType": "image/png", "content": PICTURE},
        {"type": "chart", "mimeType": "application/json", "content": CHART},
    ),
    story.RAISE: answer("reused")
    | {"success": False, "error": "KeyError: 'Bonus'", "errorDetail": {"kind": "user_code"}},
    KEPT: answer("reused", text("(True, 100)")),
    story.JOIN: answer(
        "reused",
        {"type": "html", "mimeType": "text/html", "content": "<td>Ada Novak</td>"},
        {"type": "table", "mimeType": "application/json", "content": {}},
    )
    | {"artifacts": [REPORT]},
}
TRAINED = [f"{percent} % trained\n" for percent in range(10, 101, 10)]
LAPS = ["lap 1\n", "lap 2\n", "lap 3\n"]
CANCELLED = {"kind": "cancelled"}
RUNS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "train": (TRAINED, answer("reused", text("".join(TRAINED)))),
    "laps": (
        LAPS,
        answer("reused", text("".join(LAPS))) | {"success": False, "errorDetail": {"kind": "cancelled"}},
    ),
}
"""Runs that go on: what each prints line by line, and its result."""


def sheet(name: str | None, rows: int, types: dict[str, str]) -> dict[str, Any]:
    columns = [{"name": each, "type": kind, "nulls": int(each == "Budget")} for each, kind in types.items()]
    return {"name": name, "rowCount": rows, "columns": columns}


FILES: dict[str, dict[str, Any]] = {
    "employee_data.csv": {
        "headers": demo.COLUMNS,
        "rowCount": 15,
        "tables": [sheet(None, 15, dict.fromkeys(demo.COLUMNS, "text"))],
    },
    "departments.xlsx": {
        "tables": [
            sheet(name, rows, types) for (name, types), rows in zip(demo.SHEETS.items(), (5, 12), strict=True)
        ]
    },
}
CODE = [story.LOOK_AROUND, story.ANALYSE, story.ASK_AGAIN, story.DRAW, story.JOIN, story.RAISE]
NOTEBOOK = {"cells": [{"cell_type": "code", "source": code, "outputs": ["any"]} for code in CODE]}


def accepted(code: str, **changed: Any) -> httpx.Response:
    """The answer to code that is not waited for."""
    name = "train" if code == story.TRAIN else "laps"
    urls = {
        "statusUrl": f"/api/chats/demo/executions/{name}",
        "eventsUrl": f"/api/chats/demo/executions/{name}/events",
    }
    return httpx.Response(changed.get("accepted", 202), json={"state": "running", **urls})


def told(lines: list[str], after: int, *, at_once: int) -> httpx.Response:
    """The events behind the number `after`, so many of them: an end comes behind the last line."""
    events = [("output", {"results": [text(line)]}) for line in lines] + [("end", {"success": True})]
    coming = [*enumerate(events, 1)][after : after + at_once]
    said = [f"id: {number}\nevent: {event}\ndata: {json.dumps(data)}\n\n" for number, (event, data) in coming]
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text="".join(said))


def ended(name: str, **changed: Any) -> dict[str, Any]:
    """The run once it is over."""
    return {"state": "ended", "result": RUNS[name][1] | changed.get(name, {})}


def of_code(request: httpx.Request, **changed: Any) -> httpx.Response:
    """What is answered to code."""
    body = json.loads(request.content)
    code = body["code"]
    if body.get("mode") == "async":
        return accepted(code, **changed)
    return httpx.Response(200, json=ANSWERS[code] | changed.get(code, {}))


def of_a_run(request: httpx.Request, **changed: Any) -> httpx.Response:
    """What is answered to whoever asks for a run, follows it, or cancels it."""
    name, _, what = request.url.path.partition("/executions/")[2].partition("/")
    if what != "events":
        return httpx.Response(200, json=ended(name, **changed))
    lines = changed.get("lines", RUNS[name][0])
    return told(lines, int(request.headers.get("last-event-id", 0)), at_once=4)


def of_what_is_kept(path: str, **changed: Any) -> httpx.Response:
    """What is answered to whoever asks for files, artifacts, or the notebook."""
    match path.split("/")[1:]:
        case ["bucket", "report"]:
            return httpx.Response(200, content=changed.get("content", WORKBOOK))
        case [*_, "files", name]:
            return httpx.Response(200, json={"status": "ready"} | FILES[name] | changed.get(name, {}))
        case [*_, "artifacts"]:
            return httpx.Response(200, json={"artifacts": changed.get("artifacts", [REPORT])})
        case [*_, "artifacts", "run-0"]:
            return httpx.Response(302, headers={"location": "http://s3/bucket/report"})
        case _:
            return httpx.Response(200, json=NOTEBOOK | changed.get("notebook", {}))


def service(**changed: Any) -> Callable[[httpx.Request], httpx.Response]:
    """The service as the demo expects it, but for what is changed."""
    open_chats = {"demo"}

    def reply(request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "POST", "/api/chats/demo/files":
                name = json.loads(request.content)["fileName"]
                upload = {"url": "http://s3/bucket", "fields": {"key": f"files/{name}"}}
                ticket = {"fileId": name, "path": f"/home/user/{name}", "upload": upload}
                return httpx.Response(201, json=ticket)
            case "POST", "/bucket":
                return httpx.Response(changed.get("upload_status", 204))
            case "GET", path if path.startswith(("/api/chats/demo/", "/bucket/")):
                return of_what_is_kept(path, **changed)
            case "POST", _:
                return of_code(request, **changed)
            case "DELETE", _:
                open_chats.clear()
                return httpx.Response(204)
            case _:
                return httpx.Response(
                    200, json={"exists": bool(open_chats), "sandboxId": "sbx", "expiresIn": 1_800_000}
                )

    return lambda request: of_a_run(request, **changed) if "/executions/" in request.url.path else reply(request)


def shown(folder: Path, reply: Callable[[httpx.Request], httpx.Response]) -> tuple[bool, str]:
    """Whether a demo against this service passes, and what it prints."""
    paper = StringIO()
    with httpx.Client(base_url="http://api", transport=httpx.MockTransport(reply)) as http:
        show = Show(Console(file=paper, width=90))
        chat = demo.Chat(http, "sk_test", show.live, output=folder, chat_id="demo")
        passed = demo.walk(chat, show)
    return passed, paper.getvalue()


def test_fifteen_right_answers_pass_and_output_is_shown_as_it_comes(tmp_path: Path) -> None:
    passed, paper = shown(tmp_path, service())
    assert passed, paper
    assert paper.count("✔") == 15
    assert all(f"{percent} % trained" in paper for percent in range(10, 101, 10))
    assert (tmp_path / demo.PLOT).read_bytes() == demo.PNG
    assert (tmp_path / demo.REPORT).read_bytes() == WORKBOOK
    assert json.loads((tmp_path / demo.NOTEBOOK).read_text()) == NOTEBOOK


@pytest.mark.parametrize(
    ("step", "changed", "expected", "came"),
    [
        (1, {"upload_status": 403}, "True", "False"),
        (2, {"employee_data.csv": {"rowCount": 14}}, "15", "14"),
        (2, {"employee_data.csv": {"status": "failed"}}, "ready", "failed"),
        (3, {story.LOOK_AROUND: {"session": {"status": "reused"}}}, "new", "reused"),
        (4, {story.ANALYSE: {"error": "NameError: no", "success": False}}, "None", "NameError: no"),
        (4, {story.ANALYSE: {"results": [text("shape (15, 7)\n")]}}, "83666.67", "shape (15, 7)"),
        (6, {story.ASK_AGAIN: {"sandboxId": "other"}}, "sbx", "other"),
        (7, {story.DRAW: {"results": []}}, "['image/png']", "[]"),
        (8, {"departments.xlsx": {"tables": []}}, "Targets", "{}"),
        (9, {story.JOIN: {"artifacts": [REPORT | {"status": "pending"}]}}, "stored", "pending"),
        (9, {story.JOIN: {"artifacts": []}}, "documented fields", "ValueError"),
        (10, {story.RAISE: {"success": True}}, "False", "True"),
        (10, {story.RAISE: {"errorDetail": None}}, "documented fields", "TypeError"),
        (11, {"accepted": 200}, "202", "200"),
        (11, {"lines": TRAINED[1:]}, "10 % trained", "20 % trained"),
        (11, {"train": {"results": [text("10 % trained")]}}, "100 % trained", "10 % trained"),
        (12, {"laps": {"errorDetail": {"kind": "timeout"}}}, "cancelled", "timeout"),
        (12, {KEPT: {"results": [text("(True, 90)")]}}, "(True, 100)", "(True, 90)"),
        (12, {KEPT: {"sandboxId": "other"}}, "sbx", "other"),
        (14, {"artifacts": []}, "run-0", "[]"),
        (14, {"content": WORKBOOK[:-1]}, str(len(WORKBOOK)), str(len(WORKBOOK) - 1)),
        (15, {"notebook": {"cells": []}}, "[]", "read_csv"),
    ],
)
def test_a_wrong_answer_fails_the_demo_where_it_came(
    tmp_path: Path, step: int, changed: dict[str, Any], expected: str, came: str
) -> None:
    passed, paper = shown(tmp_path, service(**changed))
    assert not passed
    assert paper.count("✔") == step - 1
    verdict = paper[paper.index("✘") :]
    assert f"step {step}" in verdict
    assert expected in verdict
    assert came in verdict


def test_a_service_that_does_not_answer_fails_the_demo(tmp_path: Path) -> None:
    def silence(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("nothing came", request=request)

    passed, paper = shown(tmp_path, silence)
    assert not passed
    assert "nothing came" in paper
