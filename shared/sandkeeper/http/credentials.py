"""What callers show to say who they are."""

from starlette.requests import Request

from sandkeeper.errors import Unauthenticated


def bearer_token(request: Request) -> str:
    """Returns the token that the request carries. Raises `Unauthenticated`."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("send credentials as `Authorization: Bearer <API key or token>`")
    return token.strip()
