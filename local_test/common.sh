# shellcheck shell=bash
# Shared by the scripts beside it: messages, and ownership of what a container wrote as root.

# shellcheck disable=SC2034  # the scripts that read this file use it
KENNEL_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TRAIN_IMAGE=${TRAIN_IMAGE:-kennel-train:latest}
SERVE_IMAGE=${SERVE_IMAGE:-kennel-serve:latest}

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# The text between the first line of a script and its first line of code, without the comment signs.
usage() { sed -nE '2,/^[^#]/{/^#/s/^# ?//p}' "$0"; }

need_image() {
    docker image inspect "$1" >/dev/null 2>&1 ||
        die "there is no image '$1' (or no docker daemon). Build it with ./build_and_push.sh --no-push, or name another."
}

# own FOLDER IMAGE: SageMaker's containers run as root, so what they leave belongs to root until it is handed over.
own() {
    docker run --rm --network none --entrypoint chown --volume "$1":/handover "$2" -R "$(id -u):$(id -g)" /handover
}
