"""The API with sandboxes that answer at once, in a process of its own: `python -m bench.instant PORT STORE`.

What is left of a call is the service itself. STORE is `dynamodb`, as deployed, or `memory`: no round trips.
"""

import argparse
import os

import uvicorn
from fastapi import FastAPI

from sandkeeper.adapters.memory import MemoryApiKeyStore, MemoryRunLog, MemorySandboxProvider, MemorySessionStore
from sandkeeper.http.app import create_app
from sandkeeper.model import ApiKey, utc_now
from sandkeeper.services.auth import hash_token
from sandkeeper.wiring import ApiWiring

STORES = ("memory", "dynamodb")


def app_on(store: str) -> FastAPI:
    """Returns the app, whose wiring has other sandboxes, and other stores too where asked."""
    wiring = ApiWiring()
    vars(wiring)["sandboxes"] = MemorySandboxProvider()
    if store == "memory":
        vars(wiring).update(store=MemorySessionStore(), runs=MemoryRunLog(), keys=MemoryApiKeyStore())
    key = hash_token(os.environ["API_KEY"])
    wiring.keys.put(ApiKey(token_hash=key, owner="bench", name="bench", created_at=utc_now()))
    return create_app(wiring)


def main() -> None:
    """Serves until it is ended."""
    parser = argparse.ArgumentParser(prog="python -m bench.instant")
    parser.add_argument("port", type=int)
    parser.add_argument("store", choices=STORES)
    asked = parser.parse_args()
    uvicorn.run(app_on(asked.store), host="127.0.0.1", port=asked.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
