"""What a sandbox's metadata says, so that it can be told whose it is. Owner and chat are not in clear there."""

from hashlib import sha256

from sandkeeper.model import Session

APP = "sandkeeper"


def of_stack(stack: str) -> dict[str, str]:
    """Returns what all sandboxes of a stack are marked with."""
    return {"app": APP, "stack": stack}


def of_session(stack: str, session: Session) -> dict[str, str]:
    """Returns what the sandbox of the session's generation is marked with."""
    return {
        **of_stack(stack),
        "chat": digest(f"{session.key.owner}#{session.key.chat_id}"),
        "generation": str(session.generation),
        "claim": session.claim_id,
    }


def digest(text: str) -> str:
    """Returns a short name for `text` that does not tell it."""
    return sha256(text.encode()).hexdigest()[:16]
