"""A run in brief: what a list of many tells of each, without what they have put out."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs import ResultType, simple_view
from sandkeeper.outputs.sound import sound, sound_text
from sandkeeper.runs import Ended, Execution, RunEvent, Started

NAME_CHARS = 200
VALUE_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run without its outputs. `run` has its code, its beginning, its end, and the last exception, cut short."""

    run: Execution
    results: Mapping[ResultType, int] = field(default_factory=dict)
    """How many there are of each kind in `results`."""
    output_chars: int = 0
    """How much it has put out, all forms of all displays included."""

    @classmethod
    def of(cls, execution: Execution) -> "RunSummary":
        """Returns the run in brief; of one that goes on, that it does."""
        if execution.end is None:
            return cls(run=replace(execution, events=(), artifacts=()))
        outputs = execution.outcome.outputs
        return cls(
            run=replace(execution, events=[*_landmarks(execution.events)], artifacts=()),
            results=Counter(item.type for item in simple_view(outputs)),
            output_chars=sum(map(_chars, outputs)),
        )


def _landmarks(events: Sequence[RunEvent]) -> Iterator[RunEvent]:
    """Yields a run's beginning, the last exception, and its end."""
    raised = max((event.number for event in events if isinstance(event.what, Raised)), default=None)
    for event in events:
        match event.what:
            case Started():
                yield event
            case Raised(name, value) if event.number == raised:
                short = Raised(sound_text(name)[:NAME_CHARS], sound_text(value)[:VALUE_CHARS], "")
                yield replace(event, what=short)
            case Ended(end, reset):
                yield replace(event, what=Ended(end, reset))
            case _:
                pass


def _chars(output: Output) -> int:
    match output:
        case Stream(_, text):
            return len(text)
        case Display(data):
            return sum(map(_form_chars, data.values()))
        case Raised(name, value, traceback):
            return len(name) + len(value) + len(traceback)


def _form_chars(form: object) -> int:
    return len(form) if isinstance(form, str) else len(json.dumps(sound(form)))
