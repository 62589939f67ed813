"""The artifact: weights and everything needed to use them, with no second definition anywhere.

A folder that SageMaker packs into model.tar.gz: `model.safetensors` and `meta.json`, beside them the probe images.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

import kennel
from kennel.classifier.data.preprocess import Preprocessing
from kennel.classifier.network.model import outline
from kennel.contract.errors import ArtifactError
from kennel.contract.files import atomic_write, write_json

SCHEMA_VERSION = 1
META_FILE = "meta.json"
WEIGHTS_FILE = "model.safetensors"


def software_versions() -> dict[str, str]:
    """Versions of what computes a prediction."""
    found = {"kennel": kennel.__version__, "python": platform.python_version()}
    for name in ("torch", "torchvision", "pillow", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


@dataclass(frozen=True)
class Meta:
    """What an artifact says of itself."""

    arch: str
    classes: tuple[str, ...]  # folder names, in the order of the network's outputs
    labels: tuple[str, ...]  # the same, as people read them
    preprocessing: Preprocessing
    hyperparameters: Mapping[str, str | int | float]
    metrics: Mapping[str, float]
    data: Mapping[str, Any]  # image counts and the fingerprint of the training data
    git_revision: str
    weights_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=software_versions)
    schema_version: int = SCHEMA_VERSION


def save_artifact(folder: Path, model: nn.Module, meta: Meta) -> Meta:
    """Write weights, then meta.json, each whole or not at all; a folder with meta.json is complete.

    Returns:
        the meta as written, with the weights' SHA-256.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / META_FILE).unlink(missing_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    data = safetensors.torch.save(state)
    with atomic_write(folder / WEIGHTS_FILE) as file:
        file.write(data)
    return write_meta(folder, replace(meta, weights_sha256=hashlib.sha256(data).hexdigest()))


def write_meta(folder: Path, meta: Meta) -> Meta:
    """Write meta.json anew, for weights that are already in the folder."""
    write_json(folder / META_FILE, asdict(meta))
    return meta


def read_meta(folder: Path) -> Meta:
    """Read meta.json.

    Raises:
        ArtifactError: missing, damaged, or of another schema version.
    """
    path = folder / META_FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = ", ".join(sorted(p.name for p in folder.glob("*"))) or "nothing"
        raise ArtifactError(
            f"{folder} holds no {META_FILE} (found: {found}). Give the folder that training wrote."
        ) from None
    except ValueError as error:
        raise ArtifactError(f"{path} is damaged: {error}. Unpack model.tar.gz again.") from error
    schema = values.get("schema_version") if isinstance(values, dict) else None
    if schema != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema version {schema}; this Kennel reads {SCHEMA_VERSION}. Use a matching image."
        )
    try:
        return Meta(
            **{
                **values,
                "classes": tuple(values["classes"]),
                "labels": tuple(values["labels"]),
                "preprocessing": Preprocessing.from_json(values["preprocessing"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{path} is damaged: {error}. Unpack model.tar.gz again.") from error


def load_artifact(folder: Path) -> tuple[nn.Module, Meta]:
    """Rebuild the network from an artifact, in evaluation mode on the CPU.

    Raises:
        ArtifactError: a file is missing or damaged, or the two do not belong together.
    """
    meta = read_meta(folder)
    path = folder / WEIGHTS_FILE
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ArtifactError(f"Cannot read {path}: {error.strerror}. Unpack model.tar.gz again.") from error
    if digest != meta.weights_sha256:
        raise ArtifactError(
            f"{path} has SHA-256 {digest[:12]}…, {META_FILE} says {meta.weights_sha256[:12]}…. Unpack again."
        )
    model = outline(meta.arch, len(meta.classes))  # no time is spent on random weights that are replaced at once
    # The weights stay in the file and are mapped: memory that the system may take back, and that processes share.
    model.load_state_dict(safetensors.torch.load_file(path), assign=True)
    return model.eval(), meta
