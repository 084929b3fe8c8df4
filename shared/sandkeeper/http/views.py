"""What came of a run, in the views that were asked for, and within the size of a reply."""

from collections.abc import Collection

from pydantic_core import to_json

from sandkeeper.http.error_details import ErrorDetail, what_came_of
from sandkeeper.http.execute_schemas import ExecuteReply, ExecutionReply, View
from sandkeeper.http.fitting import Fitting, weight
from sandkeeper.http.result_schemas import ResultSchema
from sandkeeper.model import Output, Raised, RunEnd
from sandkeeper.outputs import Failure, model_view, notebook_view
from sandkeeper.runs import Execution
from sandkeeper.services.overflow import Overflow
from sandkeeper.services.requests import REPLY_BYTES

AROUND_BYTES = 10_000
"""What a reply has besides a run's result, and commas."""


def fitted(
    answer: ExecuteReply, execution: Execution, overflow: Overflow, include: Collection[View] = ()
) -> ExecuteReply:
    """Returns the answer with these views, and with links to what it has no room for."""
    outputs, detail = what_came_of(execution)
    cells = notebook_view([*outputs, *_interruption(execution, detail)]) if "outputs" in include else []
    text = for_a_model(execution) if "model" in include else None
    results = [result for result in answer.results if isinstance(result, ResultSchema)]
    without = answer.model_copy(update={"model": text, "results": []})
    room = REPLY_BYTES - AROUND_BYTES - weight(to_json(without, by_alias=True))
    told, cells_told = Fitting(overflow, execution.key).fit(results, cells, room)
    return without.model_copy(update={"results": told, "outputs": cells_told if "outputs" in include else None})


def fitted_execution(
    answer: ExecutionReply, execution: Execution, overflow: Overflow, include: Collection[View] = ()
) -> ExecutionReply:
    """Returns the same of a run that may go on."""
    if answer.result is None:
        return answer
    return answer.model_copy(update={"result": fitted(answer.result, execution, overflow, include)})


def _interruption(execution: Execution, detail: ErrorDetail | None) -> list[Output]:
    """Returns what a notebook shows where a run has not come to its end, of which the code itself says nothing."""
    if detail is None or execution.end is RunEnd.FINISHED:
        return []
    line = f"{detail.name}: {detail.value}"
    return [Raised(detail.name, detail.value, f"{detail.traceback}\n{line}" if detail.traceback else line)]


def for_a_model(execution: Execution) -> str:
    """Returns what came of a run that has ended as one short text for a language model."""
    outputs, detail = what_came_of(execution)
    failure = None
    if detail is not None:
        traceback = None if execution.end is RunEnd.FINISHED else detail.traceback
        failure = Failure(
            kind=detail.kind, name=detail.name, value=detail.value, hint=detail.hint, traceback=traceback
        )
    return model_view(outputs, failure=failure, reset_reason=execution.reset_reason, artifacts=execution.artifacts)
