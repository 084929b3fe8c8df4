"""What can be watched of a deployment: events, metrics, alarms, a dashboard; and that the docs tell of all."""

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from local.project import ROOT
from local.template import load_template
from sandkeeper.telemetry import LambdaJournal, metric_of

PACKAGE = ROOT / "shared" / "sandkeeper"
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
RESOURCES: dict[str, Any] = load_template((ROOT / "template.yaml").read_text())["Resources"]
ALARMS = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
OURS = {"Fn::Sub": "Sandkeeper/${AWS::StackName}"}
SERVICES = {"api", "mcp", "cleanup", "file_ingest"}
EVENT = re.compile(r"[a-z]+(\.[a-z_]+)+")


def noted() -> Iterator[tuple[str, frozenset[str]]]:
    """Yields the events that the code notes, each with its facts. Those noted by name elsewhere have `error`."""
    for module in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            match node:
                case ast.Call(ast.Attribute(attr="note"), [ast.Constant(str() as event)], facts):
                    yield event, frozenset(fact.arg for fact in facts if fact.arg)
                case ast.Call(_, [*arguments]) if "_quietly" in ast.unparse(node):
                    for argument in arguments:
                        if isinstance(argument, ast.Constant) and EVENT.fullmatch(str(argument.value)):
                            yield str(argument.value), frozenset({"error"})


EVENTS = dict(noted())


def metrics() -> set[str]:
    """Returns the names of all metrics that the events may have."""
    told = {metric_of(event, fact) for event, facts in EVENTS.items() for fact in ("", *facts)}
    return {*told, metric_of("cleanup.ended", "live")}  # which only those ticks tell that saw all sandboxes


def test_events_are_named_noun_verb() -> None:
    assert len(EVENTS) > 20
    assert [event for event in EVENTS if not EVENT.fullmatch(event)] == []


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_explained_with_its_metric(event: str) -> None:
    assert re.search(
        rf"^\| `{re.escape(event)}` \| `{metric_of(event)}`.* \| .{{15,}} \|$", OPERATIONS, re.MULTILINE
    )


def test_no_event_is_explained_that_there_is_not() -> None:
    assert set(re.findall(r"^\| `([a-z_.]+)` \| `[A-Z]", OPERATIONS, re.MULTILINE)) == set(EVENTS)


@pytest.mark.parametrize("event", EVENTS)
def test_every_event_is_counted(event: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", f"watching-{event}")
    monkeypatch.setenv("POWERTOOLS_METRICS_NAMESPACE", "Sandkeeper/stack")

    LambdaJournal().note(event)

    (emf,) = (line for line in map(json.loads, capsys.readouterr().out.splitlines()) if "_aws" in line)
    (directive,) = emf["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("Sandkeeper/stack", [["service"]])
    assert emf[metric_of(event)] == [1.0]


def test_each_stack_counts_its_own() -> None:
    text = load_template((ROOT / "template.yaml").read_text())
    assert text["Globals"]["Function"]["Environment"]["Variables"]["POWERTOOLS_METRICS_NAMESPACE"] == OURS


# ── Alarms ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("alarm", ALARMS)
def test_every_alarm_has_a_section_that_says_what_it_means_and_what_to_do(alarm: str) -> None:
    section = re.search(rf"^### {alarm}\n(.*?)(?=^##|\Z)", OPERATIONS, re.MULTILINE | re.DOTALL)
    assert section, f"docs/operations.md has no section ### {alarm}"
    assert "**Means:** " in section[1]
    assert "**Do:** " in section[1]


def test_no_section_is_of_an_alarm_that_there_is_not() -> None:
    assert set(re.findall(r"^### (\w+)$", OPERATIONS, re.MULTILINE)) == set(ALARMS)


def test_there_is_an_alarm_for_each_way_in_which_the_service_can_fail_silently() -> None:
    assert ALARMS["OrphansFound"]["MetricName"] == metric_of("sandbox.orphan_killed")
    assert {"ApiAnswers5xx", "CleanupNotRunning", "DeadLettersWaiting"} <= ALARMS.keys()


def test_alarms_on_our_own_metrics_watch_what_the_code_counts() -> None:
    ours = [alarm for alarm in ALARMS.values() if alarm["Namespace"] == OURS]
    assert ours
    for alarm in ours:
        assert alarm["MetricName"] in metrics()
        (dimension,) = alarm["Dimensions"]
        assert dimension["Name"] == "service"
        assert dimension["Value"] in SERVICES


# ── Dashboard ───────────────────────────────────────────────────────────────────────────────────────


def dashboard() -> dict[str, Any]:
    """Returns the dashboard, its references as they are written."""
    parsed: dict[str, Any] = json.loads(RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"])
    return parsed


def shown() -> Iterator[list[str]]:
    """Yields the metrics that the dashboard shows, with what `.` and `...` stand for."""
    for widget in dashboard()["widgets"]:
        before: list[str] = []
        for line in widget["properties"].get("metrics", []):
            words = [word for word in line if isinstance(word, str)]
            if words[:1] == ["..."]:
                words = [*before[: len(before) - len(words) + 1], *words[1:]]
            before = [before[at] if word == "." else word for at, word in enumerate(words)]
            yield before


def test_the_dashboard_shows_every_alarm() -> None:
    (alarms,) = (widget for widget in dashboard()["widgets"] if widget["type"] == "alarm")
    assert set(alarms["properties"]["alarms"]) == {f"${{{name}.Arn}}" for name in ALARMS}


def test_the_dashboard_shows_what_the_code_counts_and_what_the_template_has() -> None:
    for namespace, metric, dimension, value in shown():
        if namespace == OURS["Fn::Sub"]:
            assert metric in metrics(), metric
            assert (dimension, value in SERVICES) == ("service", True), metric
        else:
            assert re.fullmatch(r"AWS/(Lambda|ApiGateway|SQS)", namespace)
            assert re.fullmatch(r"\$\{(\w+)(\.\w+)?\}", value), value
            assert value.strip("${}").split(".")[0] in RESOURCES


def test_widgets_lie_beside_each_other() -> None:
    places = [(widget["x"], widget["y"]) for widget in dashboard()["widgets"]]
    assert len(set(places)) == len(places)
    assert all(widget["x"] + widget["width"] <= 24 for widget in dashboard()["widgets"])


# ── Where the log says what ─────────────────────────────────────────────────────────────────────────


def test_the_access_log_names_no_chat() -> None:
    """Chats are named in paths and query strings, and callers choose their names."""
    said = set(
        re.findall(r"\$context\.([A-Za-z.]+)", RESOURCES["HttpApi"]["Properties"]["AccessLogSettings"]["Format"])
    )
    assert "requestId" in said
    assert not {name for name in said if re.search(r"path|query|routeKey|authorizer|header", name, re.IGNORECASE)}
