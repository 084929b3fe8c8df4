"""Why a run did not succeed, as it goes over the wire."""

from typing import Literal, assert_never, cast

from sandkeeper.http.schemas import Wire
from sandkeeper.model import Output, Raised, RunEnd
from sandkeeper.outputs import clipped, plain, sound_text
from sandkeeper.runs import Execution

MAX_NAME_CHARS = 200
MAX_VALUE_CHARS = 10_000
MAX_TRACEBACK_CHARS = 100_000
"""How much of an exception the reason for a failure has. All of it is among the results."""

ErrorKind = Literal[
    "user_code", "timeout", "cancelled", "output_limit", "out_of_memory", "kernel_died", "sandbox_lost"
]


class ErrorDetail(Wire):
    """Why the code did not succeed."""

    kind: ErrorKind
    name: str
    value: str
    traceback: str | None
    retryable: bool
    hint: str


STOPPED = (RunEnd.TIMEOUT, RunEnd.CANCELLED, RunEnd.OUTPUT_LIMIT)
"""Ends at which the kernel was interrupted, and keeps its variables."""


def what_came_of(execution: Execution) -> tuple[list[Output], ErrorDetail | None]:
    """Returns what there is to show, and why the code did not succeed.

    The interrupt that has stopped a program is part of the reason, and no output of its own.
    """
    outcome = execution.outcome
    outputs = list(outcome.outputs)
    raised = next((output for output in reversed(outputs) if isinstance(output, Raised)), None)
    if outcome.end is RunEnd.FINISHED:
        return outputs, None if raised is None else _user_error(raised)
    if outcome.end in STOPPED and raised is not None and raised.name == "KeyboardInterrupt":
        outputs.remove(raised)
        return outputs, _failure(execution, outcome.end, _traceback(raised))
    return outputs, _failure(execution, outcome.end, None)


def error_of(execution: Execution) -> ErrorDetail | None:
    """Returns why a run that has ended did not succeed; None if it did."""
    return what_came_of(execution)[1]


def error_line(detail: ErrorDetail | None) -> str | None:
    """Returns the reason in one line."""
    return None if detail is None else f"{detail.name}: {detail.value}"


def _traceback(raised: Raised) -> str:
    return clipped(sound_text(plain(raised.traceback)), MAX_TRACEBACK_CHARS)


def _user_error(raised: Raised) -> ErrorDetail:
    has_memory = not raised.name.endswith("MemoryError")  # numpy has one of its own
    hint = "Correct it and run it again" if has_memory else "There is not enough memory for it: load less at once"
    return ErrorDetail(
        kind="user_code" if has_memory else "out_of_memory",
        name=clipped(sound_text(raised.name), MAX_NAME_CHARS),
        value=clipped(sound_text(raised.value), MAX_VALUE_CHARS),
        traceback=_traceback(raised),
        retryable=False,
        hint=f"The code raised an exception. {hint}; variables are still there.",
    )


def _failure(
    execution: Execution,
    end: Literal[
        RunEnd.TIMEOUT,
        RunEnd.CANCELLED,
        RunEnd.OUTPUT_LIMIT,
        RunEnd.OUT_OF_MEMORY,
        RunEnd.KERNEL_DIED,
        RunEnd.SANDBOX_LOST,
    ],
    traceback: str | None,
) -> ErrorDetail:
    """Returns why a run ended before its time."""
    context = execution.context
    cut_short = context.limit_ms < context.asked_ms
    kept = "Variables are still there"
    if execution.has_lost_variables:
        kept = "The code did not react, so that its kernel was restarted: variables are lost, files are still there"
    match end:
        case RunEnd.TIMEOUT if cut_short:
            name = "TimeoutError"
            value = (
                f"the code was interrupted after {context.limit_ms} of its {context.asked_ms} ms: getting a sandbox"
                " took the others"
            )
            hint = f"{kept}. The sandbox is there now: run it again."
        case RunEnd.TIMEOUT:
            name = "TimeoutError"
            value = f"the code ran longer than its limit of {context.limit_ms} ms and was interrupted"
            hint = f"{kept}. Do less at once, or raise timeoutMs."
        case RunEnd.CANCELLED:
            name, value = "Cancelled", "the code was stopped"
            hint = f"Somebody stopped the code. {kept}."
        case RunEnd.OUTPUT_LIMIT:
            name, value = "OutputLimit", "the code put out more than is kept of a run and was interrupted"
            hint = f"{kept}. Print and display less, or write it to a file."
        case RunEnd.OUT_OF_MEMORY:
            name, value = "OutOfMemory", "the Python process needed more memory than there is and was ended"
            hint = "Variables are lost, files are still there. Load less at once."
        case RunEnd.KERNEL_DIED:
            name, value = "KernelDied", "the Python process ended while the code was running"
            hint = "Variables are lost, files are still there. Using too much memory is a common cause."
        case RunEnd.SANDBOX_LOST:
            name, value = "SandboxLost", "the sandbox was lost while the code was running"
            hint = "How far the code came is unknown. The next call tells whether variables were lost."
        case _:
            assert_never(end)
    retryable = end is RunEnd.SANDBOX_LOST or (end is RunEnd.TIMEOUT and cut_short)
    kind = cast("ErrorKind", end.value)
    return ErrorDetail(kind=kind, name=name, value=value, traceback=traceback, retryable=retryable, hint=hint)
