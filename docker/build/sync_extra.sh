#!/bin/bash
# Installs one extra of uv.lock into the shared environment. Given a folder, leaves in it the files that this added,
# so that an image can be built of the shared layer and a small one of its own.
set -euo pipefail

extra=${1:?an extra of pyproject.toml}
added=${2:-}
venv=$UV_PROJECT_ENVIRONMENT

list() { find "$venv" \( -type f -o -type l \) "$@" -printf '%P\n' | sort; }

mkdir -p "$venv"
list >/tmp/before
touch /tmp/stamp

# triton (690 MB) serves torch.compile alone, which wants a C compiler at run time: these images have neither.
# pip serves a requirements.txt beside the program: what is not in uv.lock is not in a job either.
uv sync --locked --no-dev --no-install-project --no-install-package triton --no-install-package pip --extra "$extra"

# Headers and static libraries (100 MB) serve a compiler, too.
find "$venv" \( -name '*.h' -o -name '*.hpp' -o -name '*.cuh' -o -name '*.a' \) -delete

list >/tmp/after
if removed=$(comm -23 /tmp/before /tmp/after) && [[ -n $removed ]]; then
    printf 'sync_extra: extra %s would remove files of the layer below:\n%s\n' "$extra" "$removed" >&2
    exit 1 # a layer can only add: give the extras in pyproject.toml the same versions of what they share
fi
if [[ -n $added ]]; then
    mkdir -p "$added$venv"
    list -cnewer /tmp/stamp | tar -C "$venv" -c --files-from=- | tar -C "$added$venv" -x
    du -sh "$added"
fi
