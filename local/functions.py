"""The functions as Lambda loads them: one file each, found by folder, under a module name of its own."""

import uuid
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

from local.project import ROOT


def load(name: str) -> ModuleType:
    """The module `functions/<name>/app.py`."""
    path = ROOT / "functions" / name / "app.py"
    spec = spec_from_file_location(f"function_{name}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Context:
    """What Lambda passes beside the event, as far as handlers look at it."""

    function_name: str
    memory_limit_in_mb: int = 512
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    remaining_ms: int = 60_000

    @property
    def invoked_function_arn(self) -> str:
        return f"arn:aws:lambda:us-east-1:000000000000:function:{self.function_name}"

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining_ms
