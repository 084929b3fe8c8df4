"""Third-party modules are rewritten for a layer, so that they import and make no more at first than a call needs.

What they offer stays the same. Each way of rewriting names the modules that it is for, and fails the build where a
new version of one no longer is what it was: then somebody looks.
"""

import ast
from collections.abc import Iterable
from pathlib import Path

# Packages that import all they have when anything of them is imported: see `lazy`.
LAZY = ("e2b", "e2b/api/client/models", "mcp", "mcp/server")
# Packages from which a lazy one passes names on beside its own.
PASSED_ON = ("mcp_types",)
# Modules whose `TypedDict`s nobody looks into while a program runs: see `plain_dicts`.
PLAIN_DICTS = ("e2b/sandbox/mcp", "e2b/sandbox/sandbox_api", "pydantic_core/core_schema")
# Names of modules that hardly any call asks for, and that take long to import: see `late`.
LATE = {"boto3/compat": {"TransferConfig", "TRANSFER_CONFIG_SUPPORTS_CRT"}}
# Modules that import what few of their functions need: a client's documentation, which is written when it is read.
INWARD = ("boto3/docs/__init__", "boto3/docs/docstring", "botocore/docs/__init__", "botocore/docs/docstring")


def rewrite(target: Path) -> None:
    """Rewrites what of these modules there is in the layer. Raises `NotLazy`."""
    for name in LAZY:
        if (target / name).exists():
            lazy(target / name)
    for name in PLAIN_DICTS:
        if (module := target / f"{name}.py").exists():
            plain_dicts(module)
    for name in INWARD:
        if (module := target / f"{name}.py").exists():
            inward(module)
    for name, names in LATE.items():
        if (module := target / f"{name}.py").exists():
            late(module, names)


def lazy(package: Path) -> None:
    """Has the package import a name when it is first asked for, where its `__init__` imports all of them at once.

    What it offers stays the same. Raises `NotLazy` for a package that does more than that when it is imported.
    """
    source = package / "__init__.py"
    kept: list[ast.stmt] = []
    origins: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(source.read_text()).body:
        match statement:
            case ast.ImportFrom(module="__future__") | ast.Expr(value=ast.Constant()):
                kept.append(statement)
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                kept.append(statement)
            case ast.ImportFrom(module=module, names=names, level=1) if names[0].name != "*":
                origins |= {name.asname or name.name: (f".{module or ''}", name.name) for name in names}
            case ast.ImportFrom(module=str(module), names=names, level=0) if module in PASSED_ON:
                origins |= {name.asname or name.name: (module, name.name) for name in names}
            case _:
                raise NotLazy(f"{source}:{statement.lineno} is no import of its own: take it out of LAZY")
    # A submodule hides what is imported under its name, as soon as it is imported itself.
    origins = {name: origin for name, origin in origins.items() if not _is_module(package, name)}
    kept_source = ast.unparse(ast.Module(kept, type_ignores=[]))
    source.write_text(f"{kept_source}\n\n_ORIGINS = {origins!r}\n{LAZY_GETATTR}")


class NotLazy(Exception):
    """A package cannot be made to import its parts one by one."""


# PEP 562: asked for what the module has not.
LAZY_GETATTR = """

def __getattr__(name):
    if name not in _ORIGINS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name, obj=None)
    from importlib import import_module

    module, attribute = _ORIGINS[name]
    value = globals()[name] = getattr(import_module(module, __name__), attribute)
    return value


def __dir__():
    return sorted({*globals(), *_ORIGINS})
"""


def plain_dicts(module: Path) -> None:
    """Has a module's `TypedDict`s be `dict`, which they are when a program runs, and describe no keys.

    To make a hundred of them takes longer than a request. Raises `NotLazy` where there are none.
    """
    plain = {"TypedDict"}
    statements: list[ast.stmt] = []
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.ClassDef(name=name, bases=[ast.Name(id=base)], decorator_list=[]) if base in plain:
                plain.add(name)
                statements += ast.parse(f"{name} = dict").body
            case _:
                statements.append(statement)
    if len(plain) == 1:
        raise NotLazy(f"{module} has no TypedDict: take it out of PLAIN_DICTS")
    module.write_text(ast.unparse(ast.Module(statements, type_ignores=[])))


def inward(module: Path) -> None:
    """Has a module's functions import what only they use of what it imports, when they are called.

    Raises `NotLazy` where it imports nothing of that kind.
    """
    statements, inside = list[ast.stmt](), list[ast.FunctionDef]()
    outside, imports = list[ast.AST](), dict[str, ast.ImportFrom]()
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.ImportFrom(module=source, names=names):
                imports |= {each.asname or each.name: ast.ImportFrom(source, [each], 0) for each in names}
                continue
            case ast.FunctionDef():
                inside.append(statement)
            case ast.ClassDef(bases=bases, body=body):
                inside += (part for part in body if isinstance(part, ast.FunctionDef))
                outside += [*bases, *(part for part in body if not isinstance(part, ast.FunctionDef))]
            case _:
                outside.append(statement)
        statements.append(statement)
    outside += (part for function in inside for part in (function.args, *function.decorator_list))
    used = _names_in(outside)
    for function in inside:
        function.body[:0] = [imports[name] for name in sorted((imports.keys() - used) & _names_in(function.body))]
    if used >= imports.keys():
        raise NotLazy(f"{module} needs at first what it imports: take it out of INWARD")
    kept = [imports[name] for name in imports if name in used]
    module.write_text(ast.unparse(ast.fix_missing_locations(ast.Module([*kept, *statements], type_ignores=[]))))


def _names_in(parts: Iterable[ast.AST]) -> set[str]:
    return {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}


def late(module: Path, names: set[str]) -> None:
    """Has a module bind these names when they are first asked for, by others: it must not use them itself.

    Raises `NotLazy` where it does, or binds them in other ways than by imports and assignments.
    """
    kept, moved = list[ast.stmt](), list[ast.stmt]()
    for statement in ast.parse(module.read_text()).body:
        match statement:
            case ast.ImportFrom(names=[ast.alias(name=name, asname=None)]) if name in names:
                moved.append(statement)
            case ast.Assign(targets=[ast.Name(id=name)]) if name in names:
                moved.append(statement)
            case _:
                kept.append(statement)
    if names & _names_in(kept) or len(moved) != len(names):
        raise NotLazy(f"{module} cannot do without {sorted(names)} at first: take it out of LATE")
    asked = ast.parse(LATE_GETATTR.format(names=", ".join(sorted(names)), among=sorted(names)))
    function = asked.body[0]
    assert isinstance(function, ast.FunctionDef)  # noqa: S101
    function.body[2:2] = moved
    module.write_text(ast.unparse(ast.Module([*kept, function], type_ignores=[])))


# PEP 562, as above. The statements that bind the names come before the last one.
LATE_GETATTR = """
def __getattr__(name):
    global {names}
    if name not in {among}:
        raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}", name=name, obj=None)
    return globals()[name]
"""


def _is_module(package: Path, name: str) -> bool:
    return (package / f"{name}.py").exists() or (package / name).is_dir()
