#!/usr/bin/env bash
# The whole way with docker alone: build, train, pack, serve, predict, compare, clean.
#
#   local_test/e2e.sh [--data DIR] [options] [name=value ...]
#
#   --data DIR          a folder with the folders train and test, and perhaps validation, each with a folder of images
#                       for each class (default: surface photos that ship in a wheel, as in `make demo`)
#   --pretrained DIR    a folder with one weights file
#   --port N            port of the server on this machine's loopback address (default: a free one)
#   --out DIR           where the job's folders go (default: build/e2e)
#   --no-build          take the images that $TRAIN_IMAGE and $SERVE_IMAGE name, or kennel-*:latest
#   --min-accuracy X    fail when the best validation accuracy is below (default 0)
#   name=value          hyperparameters
#
# $BASE_IMAGE replaces the CUDA base image. Where no image registry can be reached:
#   BASE_IMAGE=$(docker/make_base_image.sh) local_test/e2e.sh
#
# Example:
#   local_test/e2e.sh --data ~/dogs --pretrained ~/weights arch=resnet18 epochs=3
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

data=
out=$KENNEL_ROOT/build/e2e
port=
build=yes
min_accuracy=0
pretrained=()
hyperparameters=()
while [ $# -gt 0 ]; do
    case $1 in
    --data | --pretrained | --port | --out | --min-accuracy)
        [ -n "${2:-}" ] || die "$1 needs a value."
        case $1 in
        --data) data=$2 ;;
        --pretrained) pretrained=(--pretrained "$2") ;;
        --port) port=$2 ;;
        --out) out=$2 ;;
        --min-accuracy) min_accuracy=$2 ;;
        esac
        shift 2
        ;;
    --no-build) build=no && shift ;;
    --help | -h) usage && exit 0 ;;
    -*) die "unknown option '$1'; see --help." ;;
    *=*) hyperparameters+=("$1") && shift ;;
    *) die "'$1' is neither an option nor name=value; see --help." ;;
    esac
done
here=$KENNEL_ROOT/local_test
mkdir -p "$out"
out=$(cd "$out" && pwd)
container=kennel-e2e-$$
trap 'docker rm --force "$container" >/dev/null 2>&1 || true' EXIT
port=${port:-$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}

if [ "$build" = yes ]; then
    say "== build"
    "$KENNEL_ROOT/build_and_push.sh" --no-push
fi

if [ -z "$data" ]; then
    say "== photos"
    make --no-print-directory -C "$KENNEL_ROOT" .venv/demo >&2
    data=$out/photos
    (cd "$KENNEL_ROOT" && .venv/bin/python -m examples.surfaces "$data") >&2
    hyperparameters=(pretrained=none crop_px=96 batch_size=16 min_crop_area=0.5 epochs=8 "${hyperparameters[@]}")
fi
[ -d "$data/train" ] || die "$data has no folder 'train'."
[ -d "$data/test" ] || die "$data has no folder 'test'."
channels=(--train "$data/train" --test "$data/test")
if [ -d "$data/validation" ]; then channels+=(--validation "$data/validation"); fi

say "== train"
"$here/train_local.sh" "${channels[@]}" "${pretrained[@]}" --out "$out" "${hyperparameters[@]}"
stray=$(find "$out/model" "$out/output" ! -user "$(id -u)" -print -quit)
[ -z "$stray" ] || die "$stray does not belong to you."

say "== pack"
tar -czf "$out/model.tar.gz" -C "$out/model" .
rm -rf "$out/unpacked" && mkdir "$out/unpacked"
tar -xzf "$out/model.tar.gz" -C "$out/unpacked"
ls -l "$out/model.tar.gz" >&2

say "== serve"
# In float32, as the trainer judged: then the two differ by rounding alone.
"$here/serve_local.sh" "$out/unpacked" --port "$port" --name "$container" --env KENNEL_PRECISION=fp32

say "== predict"
# Read to the end: `sort | head` would now and then end this script by SIGPIPE.
mapfile -t photos < <(find -L "$data/test" -type f -name '*.[jp][pn]g' | sort)
photo=${photos[0]:?"no .jpg or .png in $data/test"}
say "$photo"
"$here/predict.sh" "$photo" --url "http://127.0.0.1:$port"

say "== compare"
python3 "$here/compare.py" "$out/output/data/test_predictions.jsonl" "$data/test" "http://127.0.0.1:$port"
python3 - "$out/model/meta.json" "$min_accuracy" <<'PY'
import json, sys
reached = json.load(open(sys.argv[1]))["metrics"]["validation_accuracy"]
print(f"validation accuracy {reached:.4f}")
sys.exit(f"error: that is below {sys.argv[2]}." if reached < float(sys.argv[2]) else 0)
PY

say "== clean"
docker stop --time 30 "$container" >/dev/null
status=$(docker wait "$container")
[ "$status" = 0 ] || die "the server ended with status $status after SIGTERM."
say "e2e passed: everything is in $out"
