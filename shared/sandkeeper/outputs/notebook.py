"""What a run put out, as a notebook keeps it: the outputs of a code cell in nbformat 4.5.

Source: https://nbformat.readthedocs.io/en/latest/format_description.html#code-cell-outputs
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, assert_never

from sandkeeper.model import Display, Output, Raised, Stream
from sandkeeper.outputs.simple import stream_name
from sandkeeper.outputs.sound import as_text, sound, sound_text

_JSON = re.compile(r"application/(.*\+)?json")
"""Types of which a notebook takes any JSON value. Those of all others are text."""


def notebook_view(outputs: Iterable[Output], execution_count: int | None = None) -> list[dict[str, Any]]:
    """Returns outputs that nbformat finds valid, whatever the sandbox has sent.

    Consecutive text of one stream is one output. Colours and carriage returns stay: whoever shows a notebook knows
    them. The cell's own value is an `execute_result` of this count.
    """
    view: list[dict[str, Any]] = []
    for name, group in groupby(outputs, key=stream_name):
        if name is None:
            view.extend(cell for output in group for cell in _cells(output, execution_count))
        elif text := "".join(output.text for output in group if isinstance(output, Stream)):
            view.append({"output_type": "stream", "name": name, "text": sound_text(text)})
    return view


def _cells(output: Output, execution_count: int | None) -> Iterator[dict[str, Any]]:
    match output:
        case Stream(name, text):
            yield {"output_type": "stream", "name": name, "text": sound_text(text)}
        case Display(data, is_main_result):
            bundle = mime_bundle(data.items())
            if bundle and is_main_result:
                yield {
                    "output_type": "execute_result",
                    "execution_count": execution_count,
                    "data": bundle,
                    "metadata": {},
                }
            elif bundle:
                yield {"output_type": "display_data", "data": bundle, "metadata": {}}
        case Raised(name, value, traceback):
            yield {
                "output_type": "error",
                "ename": sound_text(name),
                "evalue": sound_text(value),
                "traceback": sound_text(traceback).split("\n"),
            }
        case _:
            assert_never(output)


def mime_bundle(data: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object's forms as a notebook takes them: any value for JSON's types, text for all others."""
    return {
        sound_text(str(mime)): sound(value) if _JSON.fullmatch(str(mime)) else as_text(value)
        for mime, value in data
        if value is not None
    }
