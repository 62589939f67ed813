#!/usr/bin/env bash
# Ask a running server for the classes of photos, with curl.
#
#   local_test/predict.sh PHOTO ... [options]
#
#   --url URL           default http://127.0.0.1:8080
#   --top-k N           classes to list (default 3)
#
# Example:
#   local_test/predict.sh ~/photos/ants/1.jpg --top-k 1
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

url=http://127.0.0.1:8080
top_k=3
photos=()
while [ $# -gt 0 ]; do
    case $1 in
    --url | --top-k)
        [ -n "${2:-}" ] || die "$1 needs a value."
        if [ "$1" = --url ]; then url=$2; else top_k=$2; fi
        shift 2
        ;;
    --help | -h) usage && exit 0 ;;
    -*) die "unknown option '$1'; see --help." ;;
    *) photos+=("$1") && shift ;;
    esac
done
[ ${#photos[@]} -gt 0 ] || die "name at least one photo; see --help."

for photo in "${photos[@]}"; do
    [ -f "$photo" ] || die "there is no file '$photo'."
    extension=${photo##*.}
    case ${extension,,} in
    jpg | jpeg) type=image/jpeg ;;
    png) type=image/png ;;
    *) type=application/octet-stream ;; # the server looks at the bytes
    esac
    # --data-binary sends the bytes as they are; --data would drop line ends. --fail-with-body keeps the server's sentence.
    curl --silent --show-error --fail-with-body --data-binary "@$photo" --header "Content-Type: $type" \
        "$url/invocations?top_k=$top_k"
    echo
done
