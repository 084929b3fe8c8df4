"""What `make deploy`, `make api-key` and `make destroy` do before AWS hears of anything."""

import json
import stat
from io import BytesIO
from pathlib import Path

import pytest

from deploy import delivery, keys, removal
from deploy.delivery import deploy_command
from deploy.removal import confirm
from deploy.stage import Stage, StageError
from sandkeeper.adapters.memory import MemoryApiKeyStore
from sandkeeper.errors import InvalidRequest
from sandkeeper.services.api_keys import ApiKeys
from sandkeeper.services.auth import hash_token
from tests.world import FakeClock

CONFIG = """\
version = 0.1
[here.global.parameters]
stack_name = "keeper-here"
[here.deploy.parameters]
region = "eu-west-1"
parameter_overrides = "LogLevel=DEBUG FileRetentionDays=7"
[there.global.parameters]
stack_name = "keeper-there"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "samconfig.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def here(config: Path) -> Stage:
    return Stage.named("here", config)


def test_a_stage_is_what_samconfig_says(config: Path, here: Stage) -> None:
    assert (here.stack_name, here.region) == ("keeper-here", "eu-west-1")
    assert here.overrides == ("LogLevel=DEBUG FileRetentionDays=7",)
    assert Stage.named("there", config) == Stage("there", "keeper-there")


def test_an_unknown_stage_is_answered_with_those_that_there_are(config: Path) -> None:
    with pytest.raises(StageError, match=r"STAGE='everywhere' is not in samconfig\.toml, which has here, there"):
        Stage.named("everywhere", config)


def test_a_stack_name_that_the_functions_could_not_take_is_refused(config: Path) -> None:
    config.write_text(CONFIG.replace("keeper-here", "k" * 65))
    with pytest.raises(StageError, match="longer than 64"):
        Stage.named("here", config)


def command(stage: Stage, *, is_new: bool, secrets: Path | None, unasked: bool = False) -> list[str]:
    return deploy_command(stage, is_new=is_new, secrets=secrets, unasked=unasked, terminal=True)[1:]


def test_a_new_stack_asks_for_the_key_and_one_that_is_there_keeps_its_own(here: Stage) -> None:
    assert command(here, is_new=True, secrets=None) == ["deploy", "--config-env", "here", "--guided"]
    assert command(here, is_new=False, secrets=None) == ["deploy", "--config-env", "here"]


def test_a_key_that_is_given_replaces_no_other_parameter_of_the_stage(here: Stage) -> None:
    given = command(here, is_new=True, secrets=Path("/tmp/key.yaml"))
    assert "--guided" not in given
    overrides = given[given.index("--parameter-overrides") + 1 :]
    assert overrides == ["LogLevel=DEBUG FileRetentionDays=7", "file:///tmp/key.yaml"]


@pytest.mark.parametrize(("unasked", "terminal"), [(True, True), (False, False)])
def test_a_new_stack_needs_a_key_where_nobody_can_be_asked(here: Stage, unasked: bool, terminal: bool) -> None:
    with pytest.raises(StageError, match="E2B_API_KEY"):
        deploy_command(here, is_new=True, secrets=None, unasked=unasked, terminal=terminal)


def test_the_key_travels_in_a_file_for_its_owner_alone_that_is_gone_afterwards() -> None:
    with delivery._secrets({"E2B_API_KEY": "e2b_secret"}) as path:
        assert path is not None
        assert "e2b_secret" in path.read_text()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()


@pytest.mark.parametrize("typed", ["", "y", "yes", "keeper"])
def test_only_the_stacks_name_lets_it_be_removed(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("builtins.input", lambda _: typed)
    with pytest.raises(StageError, match="nothing was removed"):
        confirm("keeper-here")


def test_the_stacks_name_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda _: "keeper-here\n")
    confirm("keeper-here")


class Account:
    """An account whose cleanup function reports this, round by round."""

    def __init__(self, *reports: dict[str, object]) -> None:
        self.reports = [*reports]

    def client(self, *_: object, **__: object) -> "Account":
        return self

    def invoke(self, **_: object) -> dict[str, object]:
        return {"Payload": BytesIO(json.dumps(self.reports.pop(0)).encode())}


DONE: dict[str, object] = {"ended": 1, "failed": 0, "complete": True}
NAMED = {"CleanupFunctionName": "cleanup"}


def test_sessions_are_ended_round_by_round_while_that_leads_somewhere() -> None:
    account = Account(DONE | {"complete": False}, DONE | {"failed": 1}, DONE)
    removal.end_sessions(account, NAMED)
    assert account.reports == []


@pytest.mark.parametrize("stuck", [DONE | {"ended": 0, "failed": 1}, DONE | {"ended": 0, "complete": False}])
def test_a_stack_whose_sessions_cannot_be_ended_stays(stuck: dict[str, object]) -> None:
    with pytest.raises(StageError, match="nothing was removed"):
        removal.end_sessions(Account(DONE | {"failed": 1}, stuck), NAMED)


@pytest.fixture
def given() -> MemoryApiKeyStore:
    return MemoryApiKeyStore()


@pytest.fixture
def api_keys(given: MemoryApiKeyStore) -> ApiKeys:
    return ApiKeys(given, FakeClock())


def test_a_key_is_shown_once_and_alone_on_standard_output(
    api_keys: ApiKeys, given: MemoryApiKeyStore, capsys: pytest.CaptureFixture[str]
) -> None:
    keys.give(api_keys, "alice", "her laptop")
    shown = capsys.readouterr()
    token = shown.out.strip()
    assert token.startswith("sk_")
    assert token not in shown.err
    [key] = given.all()
    assert (key.token_hash, key.owner, key.name) == (hash_token(token), "alice", "her laptop")

    keys.show(api_keys.all())
    assert key.token_hash not in capsys.readouterr().out


def test_two_keys_are_never_the_same(api_keys: ApiKeys) -> None:
    assert api_keys.give("alice", "") != api_keys.give("alice", "")


def test_a_key_speaks_for_somebody(api_keys: ApiKeys) -> None:
    with pytest.raises(InvalidRequest, match="owner"):
        api_keys.give("", "nobody's")


@pytest.mark.parametrize("by", ["id", "token"])
def test_a_key_is_revoked_by_its_id_or_by_itself_and_no_other(
    api_keys: ApiKeys, given: MemoryApiKeyStore, by: str
) -> None:
    token, _ = api_keys.give("alice", "lost"), api_keys.give("alice", "kept")
    api_keys.revoke(token if by == "token" else hash_token(token)[:12])
    assert [key.name for key in given.all()] == ["kept"]


@pytest.mark.parametrize("named", ["", "sk_unknown", "zz"])
def test_a_name_that_fits_none_or_all_revokes_nothing(
    api_keys: ApiKeys, given: MemoryApiKeyStore, named: str
) -> None:
    api_keys.give("alice", "kept")
    with pytest.raises(InvalidRequest, match="keys are named so"):
        api_keys.revoke(named)
    assert [key.name for key in given.all()] == ["kept"]
