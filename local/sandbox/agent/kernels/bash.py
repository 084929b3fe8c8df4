"""The bash kernel."""

from collections.abc import Mapping
from typing import Any

import pexpect
from bash_kernel.kernel import BashKernel


class _PromptSpawn(pexpect.spawn):  # type: ignore[misc]  # untyped
    """Sends at once, and sends Ctrl+C again when the first one was lost.

    The pause before each line guards against echoed passwords, and there is no echo here. Ctrl+C is lost when
    it comes while bash is starting a program; then the agent interrupts once more.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.delaybeforesend = None
        self._interrupted = False

    def sendintr(self) -> None:
        self._interrupted = True
        super().sendintr()

    def expect_list(self, *args: Any, **options: Any) -> Any:
        while True:
            try:
                found = super().expect_list(*args, **options)
            except KeyboardInterrupt:
                if not self._interrupted:
                    raise
                super().sendintr()
            else:
                self._interrupted = False
                return found


pexpect.spawn = _PromptSpawn


class SandboxBash(BashKernel):  # type: ignore[misc]  # untyped
    """Bash with environment variables that last for one run."""

    @classmethod
    def prepare(cls, app: Any, preload: list[str]) -> None:
        """Nothing to do: bash has no modules."""

    async def do_execute(
        self,
        *args: Any,
        cell_meta: Mapping[str, Any] | None = None,
        cell_id: str | None = None,  # noqa: ARG002 - passed to every kernel, and unknown to bash's
        **options: Any,
    ) -> Any:
        environment = (cell_meta or {}).get("environment", {})
        kept, run = environment.get("kept", {}), environment.get("run", {})
        self._tell(f"export {name}={_quoted(value)}" for name, value in kept.items())
        self._tell(_setting(name, value) for name, value in run.items())
        try:
            return super().do_execute(*args, **options)
        finally:
            self._tell(_restoring(name) for name in run)

    def _tell(self, lines: Any) -> None:
        for line in lines:
            self.bashwrapper.run_command(line)


def _setting(name: str, value: str) -> str:
    """Bash that sets a variable and remembers what it was."""
    return f'_was_{name}="${{{name}-}}" _had_{name}="${{{name}+yes}}"; export {name}={_quoted(value)}'


def _restoring(name: str) -> str:
    """Bash that undoes `_setting`."""
    back = f'export {name}="$_was_{name}"'
    return f'if [ -n "$_had_{name}" ]; then {back}; else unset {name}; fi; unset _was_{name} _had_{name}'


def _quoted(value: str) -> str:
    """A bash word for any value, in printable ASCII and on one line."""
    return "$'" + "".join(f"\\x{byte:02x}" for byte in value.encode()) + "'"
