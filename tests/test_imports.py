"""The law of the house: arrows run down only, shown on the real import graph."""

from __future__ import annotations

import ast
import functools
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp
import pytest

from kennel.contract import programs

pytestmark = pytest.mark.pure

ROOT = Path(__file__).parents[1]
OURS = ("kennel", "serving")
# Each room may import what stands in a later line. Rooms of one line do not import each other.
LAW = {
    "kennel": """
        driver
        emulator insight classifier
        storage
        contract""",
    "kennel.classifier": """
        __main__
        training
        debugger
        evaluation profiler
        network processes
        data""",
    "kennel.insight": """
        __main__
        commands
        profile tuning tables judging
        report rules
        tensors
        errors""",
    "kennel.insight.profile": """
        comparing
        contents writing
        analysis
        advice
        charts rules
        measures
        reading""",
    "kennel.emulator": """
        __main__
        server
        http
        operations
        transform tuning
        training hosting
        rules measuring containers
        documents runners service_model threads
        state
        errors""",
    "kennel.driver": """
        __main__
        commands api
        account
        endpoints
        jobs
        options tables
        checks transfers
        session
        requests
        errors""",
    "serving": """
        __main__
        server
        app
        metrics
        service
        backends
        handler
        engines models
        settings admission access
        backend cores errors logs""",
}
BETWEEN = {  # what a part may import of another one, beside the contract and the storage
    "kennel.driver": ["kennel.classifier.data"],  # the data check looks at photos as the trainer does
    "serving": ["kennel.classifier.data", "kennel.classifier.network"],
    "kennel.classifier": [],
    "kennel.insight": [],
    "kennel.emulator": [],
}
PILLOW_ONLY = [f"kennel.classifier.data.{name}" for name in ("folder", "images", "notes", "transparency")]
OWNERS = {  # a fact, and the only module that may spell it
    "/opt/ml": "kennel.contract.paths",
    "0.485": "kennel.classifier.data.preprocess",
    "0.229": "kennel.classifier.data.preprocess",
    "smdebug.pytorch": "kennel.classifier.debugger.hook",
}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    """Every import counts, wherever it stands: below TYPE_CHECKING and inside functions, too."""
    return grimp.build_graph(*OURS, include_external_packages=True, cache_dir=None)


def external(graph: grimp.ImportGraph, room: str) -> set[str]:
    """Packages that a module, or a room with all below it, imports directly."""
    modules = {room} | graph.find_descendants(room)
    found = {name for module in modules for name in graph.find_modules_directly_imported_by(module)}
    return {name.split(".")[0] for name in found} - set(OURS)


@pytest.mark.parametrize("room", LAW)
def test_arrows_run_down_only(graph: grimp.ImportGraph, room: str) -> None:
    floors = [line.split() for line in LAW[room].strip().splitlines()]
    named = {f"{room}.{name}" for floor in floors for name in floor}
    assert named == graph.find_children(room), "every room has its floor"
    layers = [grimp.Layer(*floor) for floor in floors]
    assert not graph.find_illegal_dependencies_for_layers(layers=layers, containers={room})


@pytest.mark.parametrize("part", BETWEEN)
def test_parts_know_little_of_each_other(graph: grimp.ImportGraph, part: str) -> None:
    allowed = (part, "kennel.contract", "kennel.storage", *BETWEEN[part])
    for module in {part} | graph.find_descendants(part):
        ours = [name for name in graph.find_modules_directly_imported_by(module) if name.split(".")[0] in OURS]
        strange = [name for name in ours if name != "kennel" and not name.startswith(allowed)]
        assert not strange, f"{module} must not import {strange}"


def test_no_module_imports_itself_by_a_circle(graph: grimp.ImportGraph) -> None:
    for module in graph.find_descendants("kennel") | graph.find_descendants("serving"):
        below = graph.find_children(module)  # a package may name what it holds, as operations/__init__.py does
        ours = [name for name in graph.find_modules_directly_imported_by(module) if name.split(".")[0] in OURS]
        circles = [name for name in ours if name not in below and graph.chain_exists(importer=name, imported=module)]
        assert not circles, f"{module} imports {circles}, and they import it"


def test_programs_that_are_started_by_name_are_there_and_named_in_one_place() -> None:
    paths = {name_of(path): path for path in modules()}
    table = {name: value for name, value in vars(programs).items() if name.isupper()}
    assert table
    assert set(table.values()) <= set(paths)
    spelt = {module: names for module, path in paths.items() if (names := list(started(path)))}
    assert not spelt, "take the name from kennel.contract.programs"


def started(path: Path) -> Iterator[str]:
    """The modules that a command names by a string of its own."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.List | ast.Tuple):
            texts = [value.value if isinstance(value, ast.Constant) else None for value in node.elts]
            yield from (str(text) for flag, text in itertools.pairwise(texts) if flag == "-m" and text)


def test_the_contract_needs_the_standard_library_only(graph: grimp.ImportGraph) -> None:
    assert external(graph, "kennel.contract") <= sys.stdlib_module_names


@pytest.mark.parametrize("module", PILLOW_ONLY)
def test_modules_of_the_data_check_need_no_torch(graph: grimp.ImportGraph, module: str) -> None:
    for name in {module} | graph.find_upstream_modules(module):
        if name.startswith("kennel."):
            assert external(graph, name) <= {*sys.stdlib_module_names, "PIL", "numpy"}, name


def modules() -> list[Path]:
    return sorted([*(ROOT / "src/kennel").rglob("*.py"), *(ROOT / "serving").rglob("*.py")])


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The module without docstrings, which may speak of anything, as comments may."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    return tree


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part not in ("src", "__init__"))


@pytest.mark.parametrize(("text", "owner"), OWNERS.items())
def test_a_fact_has_one_owner(text: str, owner: str) -> None:
    assert {name_of(path) for path in modules() if text in code_of(path)} == {owner}


@functools.cache
def code_of(path: Path) -> str:
    """The values of a module, and what it imports."""
    nodes = list(ast.walk(tree_of(path)))
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    names = [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return "\n".join([*(str(value) for value in values if isinstance(value, str | float)), *names])


def test_smdebug_is_for_the_hook_and_for_rules_of_its_class_alone(graph: grimp.ImportGraph) -> None:
    """It needs a compiler to install, so that a user's machine does without; and so with what only smdebug needs."""
    assert graph.find_modules_that_directly_import("smdebug") == {
        "kennel.classifier.debugger.hook", "kennel.classifier.debugger.tensor_files", "kennel.insight.judging.custom",
        "kennel.insight.judging.smdebug_trial",
    }  # fmt: skip
    for part in ("kennel.driver", "kennel.emulator", "kennel.insight"):
        assert not external(graph, part) & {"requests", "psutil", "google", "pyinstrument"}
    with_tables = {name.rpartition(".")[0] for name in graph.find_modules_that_directly_import("pandas")}
    assert all(room.startswith(("kennel.insight.profile", "kennel.insight.tuning")) for room in with_tables)


def test_torchvision_is_imported_in_one_place_and_brings_no_compiler(graph: grimp.ImportGraph) -> None:
    importers = graph.find_modules_that_directly_import("torchvision")
    assert importers == {"kennel.classifier.data.vision"}
    code = """if True:
        import sys
        from kennel.classifier.network.model import outline
        for arch in ("resnet18", "mobilenet_v2", "efficientnet_b0"):
            outline(arch)
        assert not {"torch._dynamo", "triton", "sympy"} & set(sys.modules)
        import torch
        assert torch.compile(torch.nn.Identity(), backend="eager")(torch.ones(1)).item() == 1
        assert "torch._dynamo" in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
