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
from local.project import SAMPLE
from local.project import WORKBOOK as WORKBOOK_FILE
from local.show import Show
from sandkeeper_client import Retries, Sandkeeper

CHART = {"elements": [{"label": name, "value": count} for name, count in demo.HEADCOUNT.items()]}
COUNTS = "".join(f"{name:18}{count}\n" for name, count in demo.HEADCOUNT.items())
KEPT = "lap >= 3, trained"
NOW = "2030-01-01T00:00:00Z"
TIMINGS = {"claimMs": 1, "connectMs": 0, "filesMs": 0, "runMs": 7, "releaseMs": 1}
PICTURE = base64.b64encode(demo.PNG).decode()


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "mimeType": "text/plain", "content": content}


def answer(status: str, *results: dict[str, Any]) -> dict[str, Any]:
    return {
        "success": True,
        "results": list(results),
        "error": None,
        "executionTime": 9,
        "sandboxId": "sbx",
        "uploadedFiles": ["/home/user/employee_data.csv"],
        "expiresIn": 1_800_000,
        "executionId": "run",
        "errorDetail": None,
        "session": {"status": status, "generation": 1, "stateReset": False, "reason": None},
        "artifacts": [],
        "moreFiles": 0,
        "timings": TIMINGS,
    }


def failed(kind: str) -> dict[str, Any]:
    """What an answer has of a program that did not succeed."""
    detail = {
        "kind": kind,
        "name": "KeyError",
        "value": "'Bonus'",
        "traceback": None,
        "retryable": False,
        "hint": "",
    }
    return {"success": False, "error": "KeyError: 'Bonus'", "errorDetail": detail}


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
    story.RAISE: answer("reused") | failed("user_code"),
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
RUNS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "train": (TRAINED, answer("reused", text("".join(TRAINED)))),
    "laps": (LAPS, answer("reused", text("".join(LAPS))) | failed("cancelled")),
}
"""Runs that go on: what each prints line by line, and its result."""


def sheet(name: str | None, rows: int, types: dict[str, str]) -> dict[str, Any]:
    columns = [{"name": each, "type": kind, "nulls": int(each == "Budget")} for each, kind in types.items()]
    return {"name": name, "rowCount": rows, "columns": columns}


def file(name: str, size_bytes: int, *tables: dict[str, Any]) -> dict[str, Any]:
    return {
        "fileId": name,
        "name": name,
        "path": f"/home/user/{name}",
        "size": size_bytes,
        "contentType": "text/csv",
        "status": "ready",
        "reason": None,
        "kind": "csv",
        "tables": list(tables),
        "details": {},
        "headers": demo.COLUMNS,
        "rowCount": tables[0]["rowCount"],
        "createdAt": NOW,
    }


FILES: dict[str, dict[str, Any]] = {
    "employee_data.csv": file(
        "employee_data.csv", SAMPLE.stat().st_size, sheet(None, 15, dict.fromkeys(demo.COLUMNS, "text"))
    ),
    "departments.xlsx": file(
        "departments.xlsx",
        WORKBOOK_FILE.stat().st_size,
        *[sheet(name, rows, types) for (name, types), rows in zip(demo.SHEETS.items(), (5, 12), strict=True)],
    ),
}
CODE = [story.LOOK_AROUND, story.ANALYSE, story.ASK_AGAIN, story.DRAW, story.JOIN, story.RAISE]
NOTEBOOK = {"cells": [{"cell_type": "code", "source": code, "outputs": ["any"]} for code in CODE]}


def accepted(code: str) -> httpx.Response:
    """The answer to code that is not waited for."""
    name = "train" if code == story.TRAIN else "laps"
    return httpx.Response(202, json={"executionId": name, "state": "running"})


def told(lines: list[str], after: int, *, at_once: int) -> httpx.Response:
    """The events behind the number `after`, so many of them: lines in two pieces, and an end."""
    over = {"at": NOW, "success": True, "error": None, "errorDetail": None, "artifacts": []}
    pieces = [piece for line in lines for piece in (line[:4], line[4:])]
    events = [("output", {"at": NOW, "results": [text(piece)]}) for piece in pieces] + [("end", over)]
    coming = [*enumerate(events, 1)][after : after + at_once]
    said = [f"id: {number}\nevent: {event}\ndata: {json.dumps(data)}\n\n" for number, (event, data) in coming]
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, text="".join(said))


def progress(name: str, *, is_over: bool, **changed: Any) -> dict[str, Any]:
    """The run while it goes on, or once it is over."""
    times = {"createdAt": NOW, "startedAt": NOW, "endedAt": NOW if is_over else None, "limitMs": 60_000}
    result = RUNS[name][1] | changed.get(name, {}) if is_over else None
    return {
        "executionId": name,
        "chatId": "demo",
        "state": "ended" if is_over else "running",
        **times,
        "result": result,
    }


def of_code(request: httpx.Request, **changed: Any) -> httpx.Response:
    """What is answered to code."""
    body = json.loads(request.content)
    code = body["code"]
    if body.get("mode") == "async":
        return accepted(code)
    return httpx.Response(200, json=ANSWERS[code] | changed.get(code, {}))


def of_a_run(request: httpx.Request, **changed: Any) -> httpx.Response:
    """What is answered to whoever asks for a run, follows it, or cancels it."""
    name, _, what = request.url.path.partition("/executions/")[2].partition("/")
    if what != "events":
        is_over = changed.get("is_over_at_once", request.url.params.get("waitMs") != "0")
        return httpx.Response(200, json=progress(name, is_over=is_over, **changed))
    lines = changed.get("lines", RUNS[name][0])
    return told(lines, int(request.headers.get("last-event-id", 0)), at_once=4)


def of_what_is_kept(path: str, **changed: Any) -> httpx.Response:
    """What is answered to whoever asks for files, artifacts, or the notebook."""
    match path.split("/")[1:]:
        case ["bucket", "report"]:
            return httpx.Response(200, content=changed.get("content", WORKBOOK))
        case [*_, "files", name]:
            return httpx.Response(200, json=FILES[name] | changed.get(name, {}))
        case [*_, "artifacts"]:
            return httpx.Response(200, json={"artifacts": changed.get("artifacts", [REPORT]), "next": None})
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
    http = httpx.Client(transport=httpx.MockTransport(reply))
    with Sandkeeper("http://api", "sk_test", retries=Retries(attempts=1), http=http) as service:
        show = Show(Console(file=paper, width=90))
        passed = demo.walk(demo.Chat(service, show.live, output=folder, chat_id="demo"), show)
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
        (1, {"upload_status": 403}, "a success", "403"),
        (1, {"employee_data.csv": {"status": "failed", "reason": "it is no table"}}, "a success", "it is no table"),
        (1, {"employee_data.csv": {"size": 1}}, str(SAMPLE.stat().st_size), "1"),
        (2, {"employee_data.csv": {"rowCount": 14}}, "15", "14"),
        (3, {story.LOOK_AROUND: {"session": answer("reused")["session"]}}, "new", "reused"),
        (4, {story.ANALYSE: {"error": "NameError: no", "success": False}}, "None", "NameError: no"),
        (4, {story.ANALYSE: {"results": [text("shape (15, 7)\n")]}}, "83666.67", "shape (15, 7)"),
        (6, {story.ASK_AGAIN: {"sandboxId": "other"}}, "sbx", "other"),
        (7, {story.DRAW: {"results": []}}, "['image/png']", "[]"),
        (8, {"departments.xlsx": {"tables": []}}, "Targets", "{}"),
        (9, {story.JOIN: {"artifacts": [REPORT | {"status": "pending"}]}}, "stored", "pending"),
        (9, {story.JOIN: {"artifacts": []}}, "documented values", "ValueError"),
        (10, {story.RAISE: {"success": True}}, "False", "True"),
        (10, {story.RAISE: {"errorDetail": None}}, "user_code", "None"),
        (10, {story.RAISE: {"timings": {}}}, "documented fields", "claimMs"),
        (11, {"is_over_at_once": True}, "running", "ended"),
        (11, {"lines": TRAINED[1:]}, "10 % trained", "20 % trained"),
        (11, {"train": {"results": [text("10 % trained")]}}, "100 % trained", "10 % trained"),
        (12, {"laps": failed("timeout")}, "cancelled", "timeout"),
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
    assert "nothing came" in " ".join(paper.split())
