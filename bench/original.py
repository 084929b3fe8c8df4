"""The original's design, written out as the baseline: one process, its chats' sandboxes in its memory.

A call does one step after another: it gets or creates the sandbox, downloads each file, uploads it, runs the code.
There is no table of sessions: nothing is shared with a second process, and what is in memory ends with the first.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from e2b import SandboxNotFoundException
from e2b_code_interpreter import Sandbox

LIFETIME_S = 1800
"""Its sessions lasted so long."""


@dataclass(slots=True)
class Original:
    """Runs code by the bare SDK. It looks no file up: of what its database cost, it is spared."""

    e2b: Mapping[str, str]
    s3: Any
    bucket: str
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)

    def run(self, chat_id: str, code: str, objects: Mapping[str, str] | None = None) -> None:
        """Runs code that must succeed. A new sandbox is given the objects: their keys in S3, by their names."""
        if chat_id not in self.sandboxes:
            self.sandboxes[chat_id] = Sandbox.create(timeout=LIFETIME_S, **self.e2b)
            for name, key in (objects or {}).items():
                content = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
                self.sandboxes[chat_id].files.write(name, content)
        succeed(self.sandboxes[chat_id], code)

    def resume(self, chat_id: str, code: str) -> None:
        """Runs code in a sandbox that has paused, as far as the original knew how to."""
        sandbox_id = self.sandboxes[chat_id].sandbox_id
        self.sandboxes[chat_id] = Sandbox.connect(sandbox_id, timeout=LIFETIME_S, **self.e2b)
        succeed(self.sandboxes[chat_id], code)

    def recreate(self, chat_id: str, code: str, objects: Mapping[str, str]) -> None:
        """Runs code after its sandbox has vanished, which it learns by asking for it."""
        try:
            self.resume(chat_id, code)
        except SandboxNotFoundException:
            del self.sandboxes[chat_id]
            self.run(chat_id, code, objects)
        else:
            raise RuntimeError(f"the sandbox of {chat_id} has not vanished")

    def close(self, chat_id: str) -> None:
        """Kills the chat's sandbox."""
        self.sandboxes.pop(chat_id).kill()

    def store(self, chat_id: str, contents: Mapping[str, bytes]) -> Mapping[str, str]:
        """Returns the keys of files that now lie in S3, by their names."""
        keys = {name: f"original/{chat_id}/{name}" for name in contents}
        for name, key in keys.items():
            self.s3.put_object(Bucket=self.bucket, Key=key, Body=contents[name])
        return keys


def succeed(sandbox: Sandbox, code: str) -> None:
    """Runs code that must succeed."""
    done = sandbox.run_code(code)
    if done.error:
        raise RuntimeError(done.error.value)
