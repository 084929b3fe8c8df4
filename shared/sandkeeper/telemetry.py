"""Log lines and metrics of a function, through Powertools: structured JSON, and metrics as EMF in the log.

What goes in: ids, sizes, durations, states. What never does: code, file names and contents, tokens, and the names
that callers give to chats and requests.
"""

import re
from traceback import extract_tb

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from sandkeeper import log_context
from sandkeeper.errors import NotConfigured

_UNITS = {"ms": MetricUnit.Milliseconds, "size_bytes": MetricUnit.Bytes}


def metric_of(event: str, fact: str = "") -> str:
    """Returns the name of the metric that counts the event, or of the one that sums up a fact of it."""
    return "".join(part.capitalize() for part in re.split(r"[._]", f"{event}.{fact}"))


class LambdaJournal:
    """`Journal` that writes one log line, and one metrics record, per event."""

    def __init__(self) -> None:
        self._logger = Logger()

    def note(self, event: str, **facts: str | int | float) -> None:
        """See `Journal.note`. Numbers become metrics `<Event><Fact>`; the event itself counts as 1."""
        self._logger.info(event, extra={**log_context.told(), **facts})
        metrics = EphemeralMetrics()
        metrics.add_metric(metric_of(event), MetricUnit.Count, 1)
        for fact, value in facts.items():
            if isinstance(value, int | float):
                metrics.add_metric(metric_of(event, fact), _UNITS.get(fact, MetricUnit.Count), value)
        metrics.flush_metrics(raise_on_empty_metrics=False)

    def failed(self, error: BaseException) -> None:
        """Logs an error that nobody expected: what it was and where, never with what values."""
        stack = [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in extract_tb(error.__traceback__)]
        facts: dict[str, object] = {"error": type(error).__name__, "stack": stack}
        if isinstance(error, NotConfigured):
            facts["detail"] = error.detail  # tells of the deployment alone, and how to mend it
        self._logger.error("unexpected.error", extra={**log_context.told(), **facts})

    def answered(self, method: str, route: str, status: int, ms: int) -> None:
        """Logs that a call was answered. `route` is as the API's document names it, without the call's values."""
        facts = {"method": method, "route": route, "status": status, "ms": ms}
        self._logger.info("call.answered", extra={**log_context.told(), **facts})
