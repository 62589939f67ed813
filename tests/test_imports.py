"""The arrows of the architecture, walked over the real source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ALLOWED = {  # package -> prefixes of our own modules that it may import
    "kennel.classifier": ("kennel.classifier",),
    "kennel.insight": ("kennel.insight", "kennel.classifier.archives", "kennel.classifier.contract"),
    "kennel.presence": (),  # a floor of its own: who serves a home, for those who start it and those who are it
    "kennel.emulator": (
        "kennel.emulator",
        "kennel.classifier.archives",
        "kennel.classifier.contract",
        "kennel.presence",
    ),
    "kennel.driver": (
        "kennel.driver",
        "kennel.presence",
        "kennel.classifier.config",
        "kennel.classifier.contract",
        "kennel.classifier.errors",
        "kennel.classifier.metrics",
        # What the data check shares with the trainer, all of it without torch:
        "kennel.classifier.folder",
        "kennel.classifier.images",
        "kennel.classifier.layout",
        "kennel.classifier.manifest",
        "kennel.classifier.transparency",
    ),
    "serving": ("serving", "kennel.classifier"),
}
STDLIB_ONLY = (
    "config",
    "contract",
    "errors",
    "layout",
    "manifest",
    "metrics",
    "notes",
)  # so that the driver needs no torch
PILLOW_ONLY = ("folder", "images", "transparency")  # the data check decodes photos as the trainer does


def modules() -> list[Path]:
    return sorted([*(ROOT / "src/kennel").rglob("*.py"), *(ROOT / "serving").rglob("*.py")])


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("src", "__init__"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute, so that the arrows can be read"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    package = next((p for p in ALLOWED if name_of(path).startswith(p)), None)
    if package is None:
        assert name_of(path) == "kennel", f"{path} belongs to no package of the architecture"
        return
    ours = [name for name in imports(path) if name.split(".")[0] in ("kennel", "serving", "tests", "examples")]
    strange = [name for name in ours if name != "kennel" and not name.startswith(ALLOWED[package])]
    assert not strange, f"{package} must not import {strange}"


@pytest.mark.parametrize("module", STDLIB_ONLY)
def test_modules_that_the_driver_reads_need_the_standard_library_only(module: str) -> None:
    for name in imports(ROOT / f"src/kennel/classifier/{module}.py"):
        top = name.split(".")[0]
        assert top in sys.stdlib_module_names or name.startswith(tuple(f"kennel.classifier.{m}" for m in STDLIB_ONLY))


def test_the_floor_needs_the_standard_library_only() -> None:
    for name in imports(ROOT / "src/kennel/presence.py"):
        assert name.split(".")[0] in sys.stdlib_module_names


@pytest.mark.parametrize("module", PILLOW_ONLY)
def test_modules_of_the_data_check_need_no_torch(module: str) -> None:
    light = tuple(f"kennel.classifier.{m}" for m in (*STDLIB_ONLY, *PILLOW_ONLY))
    for name in imports(ROOT / f"src/kennel/classifier/{module}.py"):
        top = name.split(".")[0]
        assert top in (*sys.stdlib_module_names, "PIL", "numpy") or name.startswith(light)


OWNERS = {
    "/opt/ml": "contract.py",
    "0.485": "preprocess.py",
    "0.229": "preprocess.py",
    "smdebug.pytorch": "debugging.py",
}


@pytest.mark.parametrize(("text", "owner"), OWNERS.items())
def test_a_fact_has_one_owner(text: str, owner: str) -> None:
    holders = {path.name for path in modules() if text in code_of(path)}
    assert holders <= {owner}


def test_smdebug_is_for_the_hook_and_for_rules_of_its_class_alone() -> None:
    """It needs a compiler to install, so that a user's machine does without; and so with what only smdebug needs."""
    importers = {name_of(path) for path in modules() if any(name.split(".")[0] == "smdebug" for name in imports(path))}
    assert importers == {
        "kennel.classifier.debugging", "kennel.classifier.tensor_files", "kennel.insight.custom",
        "kennel.insight.smdebug_trial",
    }  # fmt: skip
    for path in modules():
        if name_of(path).startswith(("kennel.driver", "kennel.emulator", "kennel.insight")):
            tops = {name.split(".")[0] for name in imports(path)}
            assert not tops & {"requests", "psutil", "google", "pyinstrument"}, path
            assert "pandas" not in tops or name_of(path).startswith(("kennel.insight.profile", "kennel.insight.tuning"))


def code_of(path: Path) -> str:
    """The module's names and values, without docstrings and comments, which may speak of anything."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    numbers = [str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, float)]
    return "\n".join([*texts, *numbers, *imports(path)])


def test_torchvision_is_imported_in_one_place_and_brings_no_compiler() -> None:
    importers = {path.name for path in modules() if any(name.split(".")[0] == "torchvision" for name in imports(path))}
    assert importers == {"vision.py", "augment.py"}  # its transforms of tensors need the compiler
    code = """if True:
        import sys
        from kennel.classifier.model import outline
        for arch in ("resnet18", "mobilenet_v2", "efficientnet_b0"):
            outline(arch)
        assert not {"torch._dynamo", "triton", "sympy"} & set(sys.modules)
        import torch
        assert torch.compile(torch.nn.Identity(), backend="eager")(torch.ones(1)).item() == 1
        assert "torch._dynamo" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
