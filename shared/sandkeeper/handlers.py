"""The Lambda handlers that no HTTP request reaches: parse the event, call the service, answer."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any
from urllib.parse import unquote_plus

from sandkeeper import log_context
from sandkeeper.wiring import CleanupWiring, IngestWiring


class EventFailed(Exception):
    """The event could not be dealt with; why is in the log. Lambda tries it again, then it is a dead letter."""


@contextmanager
def _told(wiring: CleanupWiring | IngestWiring) -> Iterator[None]:
    """Logs what goes wrong, in our way: Lambda logs what a handler raises, with whatever its message quotes."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - told here, and by its kind to Lambda
        wiring.journal.failed(error)
        raise EventFailed(type(error).__name__) from None


def end_of_start() -> None:
    """Lets garbage be collected from now on, for which a start has no time: what it has made stays for good.

    Without `freeze`, the first collection would look through all of it before the first reply.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


class CleanupHandler:
    """Answers the scheduler's tick, and `{"all": true}`, the forced cleanup of every session of the stack."""

    def __init__(self) -> None:
        log_context.quieten_libraries()
        self._wiring = CleanupWiring()

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        """Returns what was done, see `CleanupReport`."""
        log_context.begin(request_id=context.aws_request_id)
        try:
            with _told(self._wiring):
                report = self._wiring.cleanup(
                    everything=event.get("all") is True,
                    time_left_s=lambda: context.get_remaining_time_in_millis() / 1000,
                )
        finally:
            end_of_start()
        return asdict(report)


class IngestHandler:
    """Answers S3's `ObjectCreated` events for chats' files."""

    def __init__(self) -> None:
        log_context.quieten_libraries()
        self._wiring = IngestWiring()

    def __call__(self, event: Mapping[str, Any], context: Any) -> dict[str, int]:
        """Reads every file that the event names. Raises when the store fails, so that Lambda repeats it."""
        keys = (unquote_plus(record["s3"]["object"]["key"]) for record in event.get("Records", ()))
        files = [file for key in keys if (file := self._wiring.file_at(key)) is not None]
        for key, file_id in files:
            log_context.begin(request_id=context.aws_request_id)
            log_context.add_chat(key)
            with _told(self._wiring):
                self._wiring.ingest(key, file_id)
        return {"files": len(files)}
