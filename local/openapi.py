"""The OpenAPI document as the code serves it, on standard output: `make openapi` keeps it in `docs/`."""

import json
import sys

from sandkeeper.http.app import create_app
from sandkeeper.wiring import ApiWiring

if __name__ == "__main__":
    json.dump(create_app(ApiWiring()).openapi(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
