"""Rules: Prometheus accepts them, every alert fires, stays silent and recovers, and is explained."""

from __future__ import annotations

import pytest

from tests.databases import ROOT
from tests.prometheus.files import (
    PROMETHEUS,
    RULE_FILES,
    RUNBOOKS,
    TEST_FILES,
    alert_names,
    alerts,
    documented,
    load,
    recorded,
    rules,
    run,
    series_in,
)


@pytest.mark.parametrize("name", ["prometheus.yml", "local.yml"])
def test_prometheus_accepts_the_configuration(name):
    run("promtool", "check", "config", "--syntax-only", PROMETHEUS / name)


def test_prometheus_accepts_the_rules():
    run("promtool", "check", "rules", *RULE_FILES)


def test_unit_tests_of_the_rules_pass():
    run("promtool", "test", "rules", *TEST_FILES)


def test_configurations_load_every_rule_and_scrape_the_same_jobs():
    jobs = {}
    for name in ("prometheus.yml", "local.yml"):
        configuration = load(PROMETHEUS / name)
        assert configuration["rule_files"] == ["rules/*.yml"]
        jobs[name] = {job["job_name"] for job in configuration["scrape_configs"]}
    assert jobs["local.yml"] == {"tollwatch-api", "tollwatch-collector"}
    assert jobs["local.yml"] <= jobs["prometheus.yml"]


def checks_of(name):
    """Groups of an alert's unit tests, each as [(minutes, alerts that are expected)]."""
    found = load(PROMETHEUS / "tests" / f"{name}.yml")
    for group in found["tests"]:
        checks = group["alert_rule_test"]
        assert {check["alertname"] for check in checks} == {name}
        yield [(int(check["eval_time"].removesuffix("m")), check["exp_alerts"]) for check in checks]


@pytest.mark.parametrize("name", alert_names())
def test_every_alert_is_seen_to_fire_to_stay_silent_and_to_recover(name):
    groups = list(checks_of(name))
    assert any(told for checks in groups for _, told in checks), "never fires"
    assert any(all(not told for _, told in checks) for checks in groups), "no group of inputs on which it stays silent"
    assert any(
        told and not later_told
        for checks in groups
        for minute, told in checks
        for later, later_told in checks
        if later > minute
    ), "never recovers"


@pytest.mark.parametrize("name", alert_names())
def test_every_severity_of_an_alert_is_seen(name):
    seen = {told["exp_labels"]["severity"] for checks in checks_of(name) for _, expected in checks for told in expected}
    assert seen == {rule["labels"]["severity"] for rule in alerts() if rule["alert"] == name}


@pytest.mark.parametrize("name", alert_names())
def test_alerts_about_facts_say_whose(name):
    for checks in checks_of(name):
        for labels in (told["exp_labels"] for _, expected in checks for told in expected):
            if labels["scope"] == "facts":
                assert {"project", "agent", "network"} <= labels.keys()
                assert "instance" not in labels, "one alert, however many instances tell it"


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_every_alert_says_what_to_do(rule):
    name = rule["alert"]
    assert name.startswith("Tollwatch")
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["labels"]["scope"] in ("facts", "service")
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
    assert (ROOT / rule["annotations"]["runbook"]).is_file()


def test_there_is_no_page_and_no_test_of_an_alert_that_is_gone():
    names = set(alert_names())
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == names | {"README"}
    assert {path.stem for path in TEST_FILES} == names | {"recording"}


def test_rules_ask_only_for_what_exists():
    series = set(recorded())
    for metric, described in documented().items():
        series |= (
            {metric}
            if described["type"] != "histogram"
            else {f"{metric}_{part}" for part in ("bucket", "sum", "count")}
        )
    for rule in rules():
        assert series_in(rule["expr"]) <= series, rule.get("alert") or rule["record"]


def test_recorded_series_are_documented():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    listed = text.split("## Recorded by Prometheus")[1]
    for name in recorded():
        assert f"| `{name}` |" in listed, name
    assert listed.count("\n| `") == len(recorded())


def test_facts_of_several_instances_are_never_added():
    facts = {name for name, described in documented().items() if "project" in described["labels"]}
    for rule in rules():
        if facts & series_in(rule["expr"]):
            assert rule["expr"].startswith("max without (instance) ("), rule
