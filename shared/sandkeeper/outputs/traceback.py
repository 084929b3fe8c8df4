"""IPython's tracebacks, without what is not the user's."""

import re

from sandkeeper.outputs.terminal import plain

_FRAME = re.compile(r"(?:File|Cell|Input) ?.*?(?:line \d+|:\d+|\[\d+\])")
_OWN = re.compile(r"(?:Cell In|Input In|File <|File (?:/home/user|~|/tmp)/)")
_INSTALLED = ("site-packages", "dist-packages")
_RULE = re.compile(r"-{20,}\n")


def own_frames(traceback: str) -> str:
    """Returns the traceback with the frames of user code and the exceptions; of libraries' frames, their number."""
    kept: list[str] = []
    foreign = 0
    for block in [*_RULE.sub("", plain(traceback)).strip("\n").split("\n\n"), ""]:
        if _is_foreign(block):
            foreign += 1
            continue
        if foreign:
            kept.append(f"[… {foreign} {'frame' if foreign == 1 else 'frames'} of libraries …]")
            foreign = 0
        kept.append(block)
    return "\n".join(kept).rstrip("\n")


def _is_foreign(block: str) -> bool:
    """Returns whether a part of a traceback is a frame of code that the user has not written."""
    first = block.partition("\n")[0]
    if not _FRAME.match(first):
        return False
    return not _OWN.match(first) or any(folder in first for folder in _INSTALLED)
