"""CloudFormation templates as Python values, with intrinsic functions in their long form."""

from pathlib import Path
from typing import Any, cast

import yaml


class _Loader(yaml.SafeLoader):
    def intrinsic(self, suffix: str, node: yaml.Node) -> dict[str, Any]:
        """`!Ref X` → `{"Ref": "X"}`, `!Sub X` → `{"Fn::Sub": "X"}`."""
        match node:
            case yaml.MappingNode():
                value: Any = self.construct_mapping(node, deep=True)
            case yaml.SequenceNode():
                value = self.construct_sequence(node, deep=True)
            case _:
                value = self.construct_scalar(cast("yaml.ScalarNode", node))
        return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _Loader.intrinsic)


def load_template(path: Path) -> dict[str, Any]:
    """Returns the template."""
    document: dict[str, Any] = yaml.load(path.read_text(), _Loader)  # noqa: S506 - a SafeLoader
    return document
