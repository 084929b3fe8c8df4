"""What a run put out, in its views: the `results` of a reply, a notebook's outputs, a text for a model."""

from sandkeeper.outputs.clipping import clipped
from sandkeeper.outputs.described import size_text
from sandkeeper.outputs.model_text import Failure, model_view
from sandkeeper.outputs.notebook import notebook_view
from sandkeeper.outputs.simple import CHART, DATA, STDERR, ResultItem, ResultType, best_form, simple_view
from sandkeeper.outputs.sound import sound_text
from sandkeeper.outputs.terminal import as_shown, plain

__all__ = [
    "CHART",
    "DATA",
    "STDERR",
    "Failure",
    "ResultItem",
    "ResultType",
    "as_shown",
    "best_form",
    "clipped",
    "model_view",
    "notebook_view",
    "plain",
    "simple_view",
    "size_text",
    "sound_text",
]
