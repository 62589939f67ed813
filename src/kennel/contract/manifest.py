"""Image lists in place of class folders: augmented manifests (JSON lines) and MXNet's .lst files.

Sources: Amazon SageMaker AI developer guide, "Augmented Manifest Files for Training Jobs" (one JSON object a line,
`source-ref` names the object), "Image Classification - MXNet" (a .lst line is index, class and path, between tabs).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kennel.contract.errors import DataError
from kennel.contract.layout import visible

SOURCE = "source-ref"
MANIFEST_SUFFIXES = (".manifest", ".jsonl")
LST_SUFFIX = ".lst"
_NAME_BYTES = 255  # what a file system takes as a folder's name
_PROBLEMS_SHOWN = 5


@dataclass(frozen=True)
class Entry:
    """A line of a list: where the image was, and its class."""

    source: str
    class_name: str


def find_list(channel: Path) -> Path | None:
    """The one image list that lies directly in a channel, or None.

    Raises:
        DataError: there are several.
    """
    if not channel.is_dir():
        return None
    lists = sorted(p for p in visible(channel) if p.is_file() and p.suffix in (*MANIFEST_SUFFIXES, LST_SUFFIX))
    if len(lists) > 1:
        raise DataError(
            f"{channel} has {len(lists)} image lists: {', '.join(p.name for p in lists)}. Leave one, or join them."
        )
    return lists[0] if lists else None


def read_list(path: Path, root: Path) -> list[tuple[Path, str]]:
    """Read an image list: each image's path below `root`, with the name of its class.

    The sources of a list are S3 URIs or relative paths, the files of a channel lie below its prefix. As many leading
    parts are dropped from all of them as lets most lines name a file; those that still do not are kept in the result,
    so that they are reported as unreadable like any other bad image.

    Raises:
        DataError: lines that cannot be read (the first few are named), no lines, no line that names a file here, or an
            image with two classes.
    """
    entries = _read_lines(path)
    if not entries:
        raise DataError(f"{path} has no lines. Write one line an image, or remove the file to use class folders.")
    parts = [_parts(entry.source) for entry in entries]
    drops = Counter(
        count for own in parts for count in range(len(own)) if root.joinpath(*own[count:]).is_file()
    ).most_common()
    if not drops:
        raise DataError(
            f"{path} has {len(entries)} lines, but no image of them is below {root}; the first is "
            f"'{entries[0].source}'. Give the channel the S3 prefix that the images lie under."
        )
    drop = min(count for count, hits in drops if hits == drops[0][1])
    files = [
        (root.joinpath(*own[drop:] or own[-1:]), entry.class_name) for own, entry in zip(parts, entries, strict=True)
    ]
    _require_one_class_each(path, files)
    return files


def _require_one_class_each(path: Path, files: Sequence[tuple[Path, str]]) -> None:
    seen: dict[Path, str] = {}
    for image, name in files:
        if seen.setdefault(image, name) != name:
            raise DataError(f"{path} gives {image.name} two classes, {seen[image]} and {name}. Keep one of the lines.")


def parse_label(text: str) -> str:
    """The class name that a label attribute stands for.

    A JSON string, a whole number, true or false is a name as it is written; an object is SageMaker Ground Truth's
    metadata and gives its `class-name`; text that is not JSON is a name itself.

    Raises:
        DataError: anything else, or a name that cannot be a folder's.
    """
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    return _class_name(value, text)


def _class_name(value: Any, text: str) -> str:
    if isinstance(value, dict):
        value = value.get("class-name")
    if isinstance(value, bool):
        value = "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int):
        value = str(value)
    shown = text if len(text) <= 80 else text[:77] + "..."
    if not isinstance(value, str):
        raise DataError(
            f"the label {shown} is not one class. Write a class name, a whole number, or an object with 'class-name'."
        )
    if not value.strip() or value.startswith(".") or "/" in value or not value.isprintable() or _too_long(value):
        raise DataError(
            f"the class name {shown!r} cannot name a folder. Use printable names without '/' and without a dot in "
            f"front, of at most {_NAME_BYTES} bytes."
        )
    return value


def _too_long(name: str) -> bool:
    return len(name.encode("utf-8", "surrogatepass")) > _NAME_BYTES


def _read_lines(path: Path) -> list[Entry]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from error
    numbered = [(number, line.rstrip("\r")) for number, line in enumerate(lines, 1) if line.strip()]
    entries: list[Entry] = []
    problems: list[str] = []
    for number, line in numbered:
        try:
            entries.append(_lst_entry(line) if path.suffix == LST_SUFFIX else _manifest_entry(line))
        except DataError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = f" And {len(problems) - _PROBLEMS_SHOWN} more lines." if len(problems) > _PROBLEMS_SHOWN else ""
        raise DataError(f"{path} cannot be used. {' '.join(problems[:_PROBLEMS_SHOWN])}{more}")
    return entries


def _lst_entry(line: str) -> Entry:
    fields = line.split("\t")
    if len(fields) != 3:
        raise DataError(f"{len(fields)} fields between tabs; a .lst line has 3: index, class and path.")
    return Entry(_source(fields[2].strip()), parse_label(fields[1].strip()))


def _manifest_entry(line: str) -> Entry:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON ({error}); a manifest has one JSON object a line.") from error
    if not isinstance(value, dict) or not isinstance(value.get(SOURCE), str):
        raise DataError(f"no '{SOURCE}'; every line names its image with it.")
    label = _label_of(value)
    return Entry(_source(value[SOURCE]), _class_name(label, json.dumps(label, ensure_ascii=False)))


def _label_of(line: dict[str, Any]) -> Any:
    """The one label of a line; Ground Truth's `<label>-metadata` has the name where the label is a number."""
    labels = [name for name in line if name != SOURCE and not name.endswith("-metadata")]
    if len(labels) != 1:
        raise DataError(
            f"{len(labels)} attributes beside '{SOURCE}' ({', '.join(labels) or 'none'}); "
            "keep the one that is the label."
        )
    metadata = line.get(f"{labels[0]}-metadata")
    named = isinstance(metadata, dict) and isinstance(metadata.get("class-name"), str)
    return metadata if named else line[labels[0]]


def _source(text: str) -> str:
    parts = _parts(text)
    if not parts or "\0" in text or any(_too_long(part) for part in parts):
        raise DataError(f"{text[:80]!r} is no path of an image. Write a path below the channel, or its S3 URI.")
    return text


def _parts(source: str) -> Sequence[str]:
    """The path of a source, without the scheme; '..' never leaves the channel."""
    return [part for part in source.rpartition("://")[2].split("/") if part not in ("", ".", "..")]
