"""What Grafana is started with: the datasources that dashboards ask for, no secret in a file, paths that agree."""

from __future__ import annotations

import re

import yaml

from grafana.sdk import POSTGRES, PROMETHEUS
from store.roles import CONNECTION_LIMIT
from tests.databases import ROOT

FOLDER = ROOT / "grafana" / "provisioning"


def datasources():
    found = yaml.safe_load((FOLDER / "datasources" / "tollwatch.yaml").read_text())
    return {source["type"]: source for source in found["datasources"]}


def test_there_is_one_datasource_of_each_kind():
    assert set(datasources()) == {POSTGRES, PROMETHEUS}


def test_the_reader_comes_from_the_environment_and_the_readme_names_it():
    source = datasources()[POSTGRES]
    given = [source["url"], source["user"], source["secureJsonData"]["password"]]
    given += [source["jsonData"]["database"], source["jsonData"]["sslmode"], datasources()[PROMETHEUS]["url"]]
    readme = (ROOT / "grafana" / "README.md").read_text()
    assert sorted(given) == sorted(f"${name}" for name in re.findall(r"^\| `(TOLLWATCH_\w+)`", readme, re.MULTILINE))


def test_grafana_leaves_connections_of_the_reader_to_others():
    assert datasources()[POSTGRES]["jsonData"]["maxOpenConns"] < CONNECTION_LIMIT


def test_the_scrape_interval_is_the_one_of_prometheus():
    scraped = yaml.safe_load((ROOT / "prometheus" / "prometheus.yml").read_text())["global"]["scrape_interval"]
    assert datasources()[PROMETHEUS]["jsonData"]["timeInterval"] == scraped


def test_dashboards_are_read_from_where_the_readme_says_and_cannot_be_changed_there():
    (provider,) = yaml.safe_load((FOLDER / "dashboards" / "tollwatch.yaml").read_text())["providers"]
    assert f"`{provider['options']['path']}`" in (ROOT / "grafana" / "README.md").read_text()
    assert provider["allowUiUpdates"] is False
