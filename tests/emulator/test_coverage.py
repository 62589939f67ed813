import re
from pathlib import Path
from typing import Any

import pytest

from kennel.emulator.errors import ValidationException
from kennel.emulator.operations import OPERATIONS
from kennel.emulator.service_model.coverage import (
    ALL_TABLES,
    Treatment,
    accept,
    input_shape,
    markdown_tables,
    members_of,
    rules_of,
)
from kennel.emulator.service_model.coverage_tables import TABLES

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("operation", ALL_TABLES)
def test_every_member_of_the_model_has_a_rule(operation: str) -> None:
    shape = input_shape(operation)
    rules = rules_of(operation)  # a KeyError names the member for which somebody must decide
    assert set(rules) == {path for path, member in members_of(shape) if member.type_name != "structure"}


@pytest.mark.parametrize("operation", ALL_TABLES)
def test_no_rule_is_about_a_member_that_the_model_does_not_have(operation: str) -> None:
    have = {path for path, _ in members_of(input_shape(operation))}
    named = [path for groups in ALL_TABLES[operation].values() for paths in groups for path in paths.split()]
    assert [path for path in named if path.removesuffix(".*") not in have] == []
    assert len(named) == len(set(named))


@pytest.mark.parametrize("operation", ALL_TABLES)
def test_what_is_honoured_is_named_member_by_member_and_the_rest_has_a_reason(operation: str) -> None:
    for treatment, groups in ALL_TABLES[operation].items():
        for paths, reason in groups.items():
            assert bool(reason) == (treatment != "honoured"), paths
            assert treatment != "honoured" or "*" not in paths, paths


def test_every_operation_has_a_table() -> None:
    known = [operation for operations in OPERATIONS.values() for operation in operations]
    assert sorted(ALL_TABLES) == sorted([*known, *(name for name in TABLES if name.startswith("Invoke"))])


def test_a_member_that_is_only_recorded_gives_a_warning_and_one_that_is_false_none() -> None:
    request: dict[str, Any] = {
        "RoleArn": "arn",
        "EnableInterContainerTrafficEncryption": False,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        "DebugRuleConfigurations": [{"InstanceType": "ml.m5.large"}, {"InstanceType": "ml.m5.xlarge"}],
        "HyperParameters": {"a": "1"},
    }
    warnings = accept("CreateTrainingJob", request)
    places = [re.split(" has no effect here: ", warning)[0] for warning in warnings]
    assert places == [
        "RoleArn",
        "VpcConfig.SecurityGroupIds",
        "VpcConfig.Subnets",
        "DebugRuleConfigurations.InstanceType",
    ]
    assert any("EnableInterContainerTraffic" in one for one in accept("CreateTrainingJob", {
        "EnableInterContainerTrafficEncryption": True
    }))  # fmt: skip


def test_what_is_refused_is_told_with_all_other_problems_and_what_to_do() -> None:
    request = {
        "ResourceConfig": {"TrainingPlanArn": "arn"},
        "InputDataConfig": [{"DataSource": {"FileSystemDataSource": {"FileSystemId": "fs-1"}}}],
        "ServerlessJobConfig": {"AcceptEula": False},
    }
    with pytest.raises(ValidationException) as caught:
        accept("CreateTrainingJob", request, ["something else"])
    assert caught.value.message == (
        "3 validation errors detected: something else; "
        "'ResourceConfig.TrainingPlanArn' is not emulated: training plans reserve machines of AWS; leave it out; "
        "'InputDataConfig.DataSource.FileSystemDataSource.FileSystemId' is not emulated: send S3DataSource with a "
        "file:// URI of the folder"
    )


def test_each_treatment_is_in_use() -> None:
    used = {rule.treatment for operation in TABLES for rule in rules_of(operation).values()}
    assert used == set(Treatment)


def test_the_tables_in_the_docs_are_the_codes_own() -> None:
    page = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- coverage -->\n(.*)<!-- /coverage -->", page, re.DOTALL)
    assert shown
    assert shown[1] == markdown_tables(), "run: python -m kennel.emulator coverage"


def test_the_docs_name_every_operation() -> None:
    page = (ROOT / "docs/emulator.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([\w-]+) \| (.+) \|$", page, re.MULTILINE))
    for service, operations in OPERATIONS.items():
        assert rows[service] == ", ".join(operations)


def test_every_rule_of_the_security_page_has_its_test() -> None:
    page = (ROOT / "docs/security.md").read_text(encoding="utf-8")
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    rules = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| rule")]
    assert rules
    for rule in rules:
        named = re.findall(r"`(test_\w+)`", rule.rpartition(" | ")[2])
        assert named, rule
        assert [name for name in named if f"def {name}(" not in tests] == []
