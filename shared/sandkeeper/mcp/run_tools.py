"""Tools that run code.

Where replies are sent whole, behind a gateway, a call ends within 28 s: a run that takes longer answers with its
id, and the client goes on waiting with another tool. Where they stream, a client that asks for progress has it
until the run ends.
"""

import time
from datetime import timedelta

from mcp_types import CallToolResult

from sandkeeper.errors import SandkeeperError
from sandkeeper.mcp.arguments import Nothing, OfRun, Reset, RunPython
from sandkeeper.mcp.call import Call, Tell
from sandkeeper.mcp.content import came_of, told
from sandkeeper.model import Stream
from sandkeeper.outputs import plain, sound_text
from sandkeeper.runs import Execution
from sandkeeper.services.briefing import briefing
from sandkeeper.services.requests import RunRequest

WAIT = timedelta(seconds=20)
"""How long one call goes on waiting for a run."""
FOLLOW_S = 600.0
"""How long one call that streams follows a run."""
TELL_EVERY_S = 2.0
PAUSE_S = 0.5
"""How long to wait before asking again where nobody can tell anything."""
LINE_CHARS = 200


def describe_sandbox(call: Call, _: Nothing) -> CallToolResult:
    """Returns files, packages, limits, and what there is of earlier calls."""
    return told(briefing(call.wiring.context.of(call.key)))


def run_python(call: Call, asked: RunPython) -> CallToolResult:
    """Returns what came of the code, or how to go on waiting for it."""
    request = RunRequest(
        key=call.key,
        code=asked.code,
        file_ids=None,
        limit=call.limit(asked.timeout_ms),
        on_busy="wait",
        mode="auto" if call.tell is None else "async",
    )
    execution = call.wiring.execute(request).execution
    return came_of(execution if call.tell is None else _followed(call, execution, call.tell))


def wait_for_run(call: Call, asked: OfRun) -> CallToolResult:
    """Returns what came of a run, or how to go on waiting for it."""
    if call.tell is None:
        return came_of(call.wiring.executions.get(call.key, asked.execution_id, wait=WAIT))
    return came_of(_followed(call, call.wiring.executions.get(call.key, asked.execution_id), call.tell))


def stop_run(call: Call, asked: OfRun) -> CallToolResult:
    """Returns what the run has put out until it was stopped."""
    return came_of(call.wiring.executions.cancel(call.key, asked.execution_id))


def reset(call: Call, asked: Reset) -> CallToolResult:
    """Returns once variables, or all of the sandbox, are gone."""
    if asked.what == "everything":
        call.wiring.sessions.ending.close(call.key)
        return told("The sandbox is gone. The next call begins anew, with the chat's files.")
    call.wiring.control.restart(call.key)
    return told("Variables are gone, files are there. Import and load again.")


def _followed(call: Call, execution: Execution, tell: Tell) -> Execution:
    """Returns the run once it has ended, or has been followed for long enough; tells how it goes meanwhile."""
    begun, seen, line = time.monotonic(), 0, ""
    limit_s = execution.context.limit_ms / 1000
    while execution.end is None and (asked_at := time.monotonic()) < begun + FOLLOW_S:
        tell(asked_at - begun, limit_s, line or "running")
        try:
            for event in call.wiring.executions.follow(execution, after=seen, wait=timedelta(seconds=TELL_EVERY_S)):
                seen = event.number
                if isinstance(event.what, Stream):
                    line = _last_line(event.what.text) or line
            execution = call.wiring.executions.get(call.key, execution.execution_id)
        except SandkeeperError as error:
            if error.retry_after_s is None:
                raise
        if execution.end is None:
            time.sleep(max(0.0, PAUSE_S - (time.monotonic() - asked_at)))
    return execution


def _last_line(text: str) -> str:
    lines = plain(text).split("\n")
    return sound_text(next((line.strip() for line in reversed(lines) if line.strip()), ""))[:LINE_CHARS]
