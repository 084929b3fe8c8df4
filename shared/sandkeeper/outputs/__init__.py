"""What a run put out, in its views: the `results` of a reply, and a notebook's outputs."""

from sandkeeper.outputs.notebook import notebook_view
from sandkeeper.outputs.simple import CHART, DATA, STDERR, ResultItem, ResultType, plain, simple_view

__all__ = ["CHART", "DATA", "STDERR", "ResultItem", "ResultType", "notebook_view", "plain", "simple_view"]
