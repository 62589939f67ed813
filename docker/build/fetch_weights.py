"""Fetch pretrained weights at build time and refuse any but the ones that were asked for."""

from __future__ import annotations

import hashlib
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path


def main(url: str, sha256: str, arch: str, folder: str) -> str | None:
    """Leave `<arch>.pth` in the folder; an empty URL leaves the folder empty.

    Returns:
        what went wrong, in a sentence.
    """
    Path(folder).mkdir(parents=True)
    if not url:
        return f"PRETRAINED_SHA256 is {sha256}, but there is no PRETRAINED_URL. Give both or none." if sha256 else None
    if not sha256:
        return f"No PRETRAINED_SHA256 for {url}. Give the digest of the weights that you mean."
    path = Path(folder) / f"{arch}.pth"
    try:
        with urllib.request.urlopen(url, timeout=60) as response, path.open("wb") as file:  # noqa: S310 - the user's URL
            shutil.copyfileobj(response, file)
    except (OSError, ValueError) as error:
        return f"Cannot fetch {url}: {error}. Check the URL, and that the build may use the network."
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256.lower():
        return f"{url} has SHA-256 {found}, not {sha256}. Nothing was baked in: check the file, or give its digest."
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
