from pathlib import Path

import pytest

from kennel.contract.errors import ConfigError
from kennel.driver.session import project
from kennel.driver.session.project import Project, TrainSettings

pytestmark = pytest.mark.pure

WHOLE = """
on = "aws"
region = "eu-central-1"
role = "arn:aws:iam::123456789012:role/kennel"
bucket = "dogs"
network_isolation = true

[images]
train = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/kennel-train:1"

[train]
instance_type = "ml.g4dn.xlarge"
spot = true

[vpc]
subnets = ["subnet-1"]
security_groups = ["sg-1"]

[kms]
output = "alias/dogs"

[hyperparameters]
epochs = 5
lr = 0.003
compile = true

[tags]
project = "dogs"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "kennel.toml"
    path.write_text(text)
    return path


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    found = project.load(write(tmp_path, WHOLE))
    assert found.train == TrainSettings(instance_type="ml.g4dn.xlarge", spot=True)
    assert found.vpc.subnets == ("subnet-1",)
    assert found.images.serve == "kennel-serve:latest"
    assert found.hyperparameters == {"epochs": 5, "lr": 0.003, "compile": True}


def test_without_a_file_the_defaults_do_for_the_local_sagemaker(tmp_path: Path) -> None:
    assert project.find(tmp_path / "nowhere") is None
    assert project.load(None) == Project()


def test_the_nearest_file_above_counts(tmp_path: Path) -> None:
    deep = tmp_path / "a/b"
    deep.mkdir(parents=True)
    path = write(tmp_path, "")
    assert project.find(deep) == path
    assert project.find(tmp_path) == path


def test_all_problems_are_told_at_once_with_guesses(tmp_path: Path) -> None:
    text = """
on = "was"
rolle = "x"
[train]
instance_typ = "ml.g4dn.xlarge"
instance_count = "two"
volume_gb = 0
[vpc]
subnets = ["subnet-1"]
[hyperparameters]
epoch = 3
lr = 1000
[quark]
"""
    with pytest.raises(ConfigError) as refused:
        project.load(write(tmp_path, text))
    said = "\n".join(refused.value.problems)
    for sentence in (
        "unknown key 'rolle'. Did you mean 'role'?",
        "unknown key 'train.instance_typ'. Did you mean 'instance_type'?",
        "'train.instance_count' is 'two'; write a whole number.",
        "'train.volume_gb' is 0; use at least 1.",
        "'on' is 'was'; use local or aws.",
        "'vpc' needs both subnets and security_groups",
        "Unknown hyperparameter 'epoch'. Did you mean 'epochs'?",
        "Hyperparameter 'lr' has value '1000'.",
        "unknown key 'quark'. Known keys here: on, runner,",
    ):
        assert sentence in said
    assert len(refused.value.problems) == 9


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on = ", "is not TOML"),
        ("train = 3", "'train' is 3; write a table, [train]."),
        ("[tags]\na = 1", "'tags.a' is 1; write text."),
        ("[vpc]\nsubnets = 'x'", "'vpc.subnets' is 'x'; write a list of texts."),
        ("network_isolation = 1", "'network_isolation' is 1; write true or false."),
        ("[hyperparameters]\nlr = [1]", "'hyperparameters.lr' is [1]; write one value."),
        ("[deploy]\nserverless_memory_mb = 3000", "use 1024 to 6144 in steps of 1024"),
    ],
)
def test_a_value_of_another_type_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        project.load(write(tmp_path, text))
    assert said in str(refused.value)


def test_flags_win_and_are_judged_like_the_file() -> None:
    changed = Project().with_flags({"train.spot": True, "region": None, "bucket": "cats"})
    assert changed.train.spot
    assert (changed.region, changed.bucket) == ("", "cats")
    with pytest.raises(ConfigError, match="'train.instance_count' is 0; use at least 1"):
        Project().with_flags({"train.instance_count": 0})


def test_every_key_is_documented() -> None:
    page = (Path(__file__).parents[2] / "docs/driver.md").read_text(encoding="utf-8")
    missing = [key for key in project.setting_names() if f"`{key}`" not in page]
    assert not missing
