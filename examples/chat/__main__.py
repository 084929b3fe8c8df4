"""`python -m examples.chat`: a chat on the console. `make chat` sets up what it needs.

PROVIDER is scripted (the default), anthropic, openai or bedrock, MODEL the id of a model; WIRE says over whose wire
the script is asked. QUESTION is asked instead of what is typed, FILE uploaded instead of the sample, and NOTEBOOK
written. SANDKEEPER_URL and SANDKEEPER_TOKEN name a service; without them one is started on this machine.
"""

import json
import os
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NoReturn

from rich.console import Console

import sandkeeper_client as client
from examples.chat import providers
from examples.chat.conversation import Conversation
from examples.chat.models import Model, ModelFailed
from examples.chat.screen import Screen
from examples.chat.scripted.server import serving
from examples.chat.settings import BadSetting, Settings
from examples.chat.stack import Address, NoService, local_service

QUESTION = "What is the average salary?"
SCRIPTED = (
    "A script answers, and no model: it is asked by the SDK over the wire of {wire}, as a model would be."
    " PROVIDER=anthropic, openai or bedrock, and MODEL=…, ask a model."
)
WIDTH = 96
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main() -> int:
    """Returns the exit code: 0 if each question had its answer, 2 if a setting is missing or wrong, else 1."""
    for number in INTERRUPTS:
        signal.signal(number, _interrupt)
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    screen = Screen(console)
    try:
        with ExitStack() as ending:
            return _chat(Settings.of(os.environ), screen, ending)
    except BadSetting as error:
        print(error, file=sys.stderr)
        return 2
    except (NoService, client.SandkeeperError) as error:
        screen.failed(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


def _chat(settings: Settings, screen: Screen, ending: ExitStack) -> int:
    model = _model(settings, screen, ending)
    ending.callback(model.close)
    address = _address(settings, screen, ending)
    service = ending.enter_context(client.Sandkeeper(address.url, address.token))
    chat = service.chat(f"example-{uuid.uuid4().hex[:8]}")
    ending.callback(chat.close)
    file = chat.upload(settings.file)
    screen.note(f"{file.name} is uploaded: {file.row_count} rows of {', '.join(file.headers or ())}")
    notebook = chat.create_notebook(f"Conversation about {file.name}"[:200])
    conversation = Conversation(model, chat, notebook, screen)
    try:
        return _asked(settings, conversation, screen)
    finally:
        _save(settings, notebook, screen)


def _model(settings: Settings, screen: Screen, ending: ExitStack) -> Model:
    if settings.provider != "scripted":
        return providers.real(settings.provider, settings.model, os.environ)
    _without_proxy()
    screen.note(SCRIPTED.format(wire=settings.wire))
    return providers.scripted(settings.wire, ending.enter_context(serving()).url)


def _address(settings: Settings, screen: Screen, ending: ExitStack) -> Address:
    if settings.service_url:
        return Address(settings.service_url, settings.service_token)
    _without_proxy()
    screen.note("Starting the service on this machine …")
    return ending.enter_context(local_service())


def _without_proxy() -> None:
    """Lets what is on this machine be reached directly."""
    others = [os.environ[name] for name in ("NO_PROXY", "no_proxy") if os.environ.get(name)]
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = ",".join([*others, "127.0.0.1"])


def _asked(settings: Settings, conversation: Conversation, screen: Screen) -> int:
    """Returns the exit code, once all is asked."""
    code = 0
    for question in _questions(settings, screen):
        try:
            conversation.ask(question)
        except ModelFailed as error:
            screen.failed(str(error))
            code = 1
    return code


def _questions(settings: Settings, screen: Screen) -> Iterator[str]:
    """Yields the one that is given, or those that are typed until there are no more."""
    if settings.question or not sys.stdin.isatty():
        question = settings.question or QUESTION
        screen.question(question)
        yield question
        return
    screen.note(f"Ask something, such as {QUESTION!r}; an empty line ends the chat.")
    while question := _typed(screen):
        yield question


def _typed(screen: Screen) -> str:
    screen.line()
    try:
        return input("> ").strip()
    except EOFError:
        return ""


def _save(settings: Settings, notebook: client.Notebook, screen: Screen) -> None:
    settings.notebook.parent.mkdir(parents=True, exist_ok=True)
    settings.notebook.write_text(json.dumps(notebook.ipynb(), indent=1, ensure_ascii=False) + "\n")
    here = Path.cwd()
    path = settings.notebook
    screen.note(f"The notebook is in {path.relative_to(here) if path.is_relative_to(here) else path}")
    if settings.provider == "scripted":
        screen.note("A script has answered, and no model.")


def _interrupt(*_: object) -> NoReturn:
    """Ends the program at the first signal; further ones are ignored, so that nothing of it is left behind."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
