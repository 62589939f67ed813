#!/usr/bin/env bash
# Train with `docker run IMAGE train`, as SageMaker starts it.
#
#   local_test/train_local.sh --train DIR [options] [name=value ...]
#
#   --train DIR         a folder of images for each class (channel 'train')
#   --validation DIR    channel 'validation'; cut from train when it is not given
#   --test DIR          channel 'test': photos to judge the result by
#   --pretrained DIR    channel 'pretrained': a folder with one weights file
#   --out DIR           where the job's folders go (default: build/local); its model/ and output/ are replaced
#   --image NAME        default: $TRAIN_IMAGE, else kennel-train:latest
#   --shm-size SIZE     shared memory of the loader processes (default 2g; docker's own 64m is too small for them)
#   --network NAME      docker network (default none, as a network-isolated job; 'bridge' allows pretrained=download)
#   --gpus LIST         passed on to docker run, for example --gpus all
#   name=value          hyperparameters, for example epochs=3 arch=mobilenet_v2
#
# Example:
#   local_test/train_local.sh --train ~/photos pretrained=none epochs=5
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

out=$KENNEL_ROOT/build/local
image=$TRAIN_IMAGE
# The toolkit waits until the names of all hosts resolve, which they do without a network only by --add-host.
run_options=(--shm-size 2g --network none --hostname algo-1 --add-host algo-1:127.0.0.1)
mounts=()
channels=()
hyperparameters=()
train=
while [ $# -gt 0 ]; do
    case $1 in
    --train | --validation | --test | --pretrained)
        [ -d "${2:-}" ] || die "$1 needs a folder; '${2:-}' is none."
        # Read-only: a trainer that writes into its input works here and fails on SageMaker.
        mounts+=(--volume "$(cd "$2" && pwd):/opt/ml/input/data/${1#--}:ro")
        channels+=("${1#--}")
        [ "$1" = --train ] && train=$2
        shift 2
        ;;
    --out | --image | --shm-size | --network | --gpus)
        [ -n "${2:-}" ] || die "$1 needs a value."
        case $1 in
        --out) out=$2 ;;
        --image) image=$2 ;;
        *) run_options+=("$1" "$2") ;;
        esac
        shift 2
        ;;
    --help | -h) usage && exit 0 ;;
    -*) die "unknown option '$1'; see --help." ;;
    *=*) hyperparameters+=("$1") && shift ;;
    *) die "'$1' is neither an option nor name=value; see --help." ;;
    esac
done
[ -n "$train" ] || die "--train DIR is missing; see --help."
need_image "$image"

rm -rf "$out/model" "$out/output"
mkdir -p "$out/input/config" "$out/model" "$out/output/data"
out=$(cd "$out" && pwd)
# The three files that SageMaker writes before every training container starts.
python3 - "$out/input/config" "${channels[*]}" "${hyperparameters[@]}" <<'PY'
import json, pathlib, sys
folder, channels, *pairs = sys.argv[1:]
channel = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
files = {
    "hyperparameters": dict(pair.split("=", 1) for pair in pairs),
    "inputdataconfig": {name: channel for name in channels.split()},
    "resourceconfig": {
        "current_host": "algo-1", "current_instance_type": "local", "current_group_name": "homogeneousCluster",
        "hosts": ["algo-1"], "network_interface_name": "lo",
        "instance_groups": [
            {"instance_group_name": "homogeneousCluster", "instance_type": "local", "hosts": ["algo-1"]}
        ],
    },
}
for name, content in files.items():
    (pathlib.Path(folder) / f"{name}.json").write_text(json.dumps(content, indent=2))
PY

container=kennel-train-local-$$
clean() {
    docker rm --force "$container" >/dev/null 2>&1 || true
    own "$out" "$image"
}
trap clean EXIT

# Detached and awaited, so that Ctrl-C reaches the trap at once and the container is never left behind.
docker run --detach --name "$container" "${run_options[@]}" "${mounts[@]}" \
    --volume "$out/input/config:/opt/ml/input/config:ro" \
    --volume "$out/model:/opt/ml/model" --volume "$out/output:/opt/ml/output" \
    --env TRAINING_JOB_NAME="$container" \
    "$image" train >/dev/null
docker logs --follow "$container" &
wait $!
status=$(docker wait "$container")
if [ "$status" != 0 ]; then
    [ -s "$out/output/failure" ] && say "failure: $(head -c 1024 "$out/output/failure")"
    die "the training container ended with status $status."
fi
say "artifact: $out/model"
