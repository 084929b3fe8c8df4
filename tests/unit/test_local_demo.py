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

from local import demo
from local.show import Show

CHART = {"elements": [{"label": name, "value": count} for name, count in demo.HEADCOUNT.items()]}
COUNTS = "".join(f"{name:18}{count}\n" for name, count in demo.HEADCOUNT.items())
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
        "timings": {"runMs": 7},
    }


ANSWERS: dict[str, dict[str, Any]] = {
    demo.LOOK_AROUND: answer("new", text("Python 3.13.1 in /home/user with ['employee_data.csv']\n")),
    demo.ANALYSE: answer("reused", text(f"shape (15, 7)\naverage salary 83666.67\n{COUNTS}")),
    demo.ASK_AGAIN: answer("reused", text("Finance  88500.00\nEngineering  105200.00\n")),
    demo.DRAW: answer(
        "reused",
        {"type": "image", "mimeType": "image/png", "content": PICTURE},
        {"type": "chart", "mimeType": "application/json", "content": CHART},
    ),
    demo.RAISE: answer("reused")
    | {"success": False, "error": "KeyError: 'Bonus'", "errorDetail": {"kind": "user_code"}},
}
FILE = {"status": "ready", "headers": demo.COLUMNS, "rowCount": 15}


def service(**changed: Any) -> Callable[[httpx.Request], httpx.Response]:
    """The service as the demo expects it, but for what is changed."""
    open_chats = {"demo"}

    def reply(request: httpx.Request) -> httpx.Response:
        match request.method, request.url.path:
            case "POST", "/api/chats/demo/files":
                upload = {"url": "http://s3/bucket", "fields": {"key": "files/1"}}
                ticket = {"fileId": "1", "path": "/home/user/employee_data.csv", "upload": upload}
                return httpx.Response(201, json=ticket)
            case "POST", "/bucket":
                return httpx.Response(changed.get("upload_status", 204))
            case "GET", "/api/chats/demo/files/1":
                return httpx.Response(200, json=FILE | changed.get("file", {}))
            case "POST", _:
                code = json.loads(request.content)["code"]
                return httpx.Response(200, json=ANSWERS[code] | changed.get(code, {}))
            case "DELETE", _:
                open_chats.clear()
                return httpx.Response(204)
            case _:
                return httpx.Response(
                    200, json={"exists": bool(open_chats), "sandboxId": "sbx", "expiresIn": 1_800_000}
                )

    return reply


def shown(folder: Path, reply: Callable[[httpx.Request], httpx.Response]) -> tuple[bool, str]:
    """Whether a demo against this service passes, and what it prints."""
    paper = StringIO()
    with httpx.Client(base_url="http://api", transport=httpx.MockTransport(reply)) as http:
        chat = demo.Chat(http, "sk_test", plot=folder / "plot.png", chat_id="demo")
        passed = demo.walk(chat, Show(Console(file=paper, width=90)))
    return passed, paper.getvalue()


def test_nine_right_answers_pass(tmp_path: Path) -> None:
    passed, paper = shown(tmp_path, service())
    assert passed, paper
    assert paper.count("✔") == 9
    assert (tmp_path / "plot.png").read_bytes() == demo.PNG


@pytest.mark.parametrize(
    ("step", "changed", "expected", "came"),
    [
        (1, {"upload_status": 403}, "True", "False"),
        (2, {"file": {"rowCount": 14}}, "15", "14"),
        (2, {"file": {"status": "failed"}}, "ready", "failed"),
        (3, {demo.LOOK_AROUND: {"session": {"status": "reused"}}}, "new", "reused"),
        (4, {demo.ANALYSE: {"error": "NameError: no", "success": False}}, "None", "NameError: no"),
        (4, {demo.ANALYSE: {"results": [text("shape (15, 7)\n")]}}, "83666.67", "shape (15, 7)"),
        (6, {demo.ASK_AGAIN: {"sandboxId": "other"}}, "sbx", "other"),
        (7, {demo.DRAW: {"results": []}}, "['image/png']", "[]"),
        (8, {demo.RAISE: {"success": True}}, "False", "True"),
        (8, {demo.RAISE: {"errorDetail": None}}, "documented fields", "TypeError"),
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
