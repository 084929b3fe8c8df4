"""Those who make models, each behind the same small interface. A maker's SDK is imported when it is asked for."""

from collections.abc import Mapping
from typing import assert_never

from examples.chat.models import Dialect, Model
from examples.chat.settings import BadSetting

SCRIPT_KEY = "of-a-script"
"""What is said where a maker wants a key, and nobody checks it."""
MODEL = "scripted"


def real(maker: Dialect, model: str, environment: Mapping[str, str]) -> Model:
    """Returns the maker's model of this id. Raises `BadSetting` for what is missing."""

    def needed(*names: str, why: str) -> str:
        found = next((environment[name] for name in names if environment.get(name)), "")
        if not found:
            raise BadSetting(f"{names[0]} is not set: PROVIDER={maker} needs {why}")
        return found

    model = model or needed("MODEL", why="the id of a model")
    match maker:
        case "anthropic":
            from examples.chat.providers.anthropic import AnthropicModel  # noqa: PLC0415

            return AnthropicModel(model, needed("ANTHROPIC_API_KEY", why="an API key"))
        case "openai":
            from examples.chat.providers.openai import OpenAIModel  # noqa: PLC0415

            return OpenAIModel(model, needed("OPENAI_API_KEY", why="an API key"))
        case "bedrock":
            from examples.chat.providers.bedrock import BedrockModel, has_credentials  # noqa: PLC0415

            region = needed("AWS_REGION", "AWS_DEFAULT_REGION", why="a region")
            if not has_credentials():
                needed("AWS_BEARER_TOKEN_BEDROCK", why="that, or credentials as the AWS CLI has them")
            return BedrockModel(model, region)
        case _:
            assert_never(maker)


def scripted(maker: Dialect, url: str) -> Model:
    """Returns the script at this address, asked over the maker's wire by the maker's SDK."""
    match maker:
        case "anthropic":
            from examples.chat.providers.anthropic import AnthropicModel  # noqa: PLC0415

            return AnthropicModel(MODEL, SCRIPT_KEY, url)
        case "openai":
            from examples.chat.providers.openai import OpenAIModel  # noqa: PLC0415

            return OpenAIModel(MODEL, SCRIPT_KEY, f"{url}/v1")
        case "bedrock":
            from examples.chat.providers.bedrock import BedrockModel  # noqa: PLC0415

            keys = {"aws_access_key_id": SCRIPT_KEY, "aws_secret_access_key": SCRIPT_KEY}
            return BedrockModel(MODEL, "us-east-1", url, **keys)
        case _:
            assert_never(maker)
