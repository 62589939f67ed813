#!/usr/bin/env bash
# Serve an artifact with `docker run IMAGE serve`, as SageMaker starts it, until Ctrl-C.
#
#   local_test/serve_local.sh MODEL [options]
#
#   MODEL               a model.tar.gz, or the folder that it unpacks to
#   --port N            port on this machine's loopback address (default 8080)
#   --image NAME        default: $SERVE_IMAGE, else kennel-serve:latest
#   --name NAME         name of the container; with it the script returns when /ping says 200 and leaves it running
#   --memory SIZE       passed on to docker run, for example --memory 2g
#   --gpus LIST         passed on to docker run, for example --gpus all
#   --env NAME=VALUE    passed on to docker run, for example --env KENNEL_ENGINE=openvino; may be given again
#
# Example:
#   local_test/serve_local.sh build/local/model --port 9000
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

model=
port=8080
image=$SERVE_IMAGE
name=
run_options=()
while [ $# -gt 0 ]; do
    case $1 in
    --port | --image | --name | --memory | --gpus | --env)
        [ -n "${2:-}" ] || die "$1 needs a value."
        case $1 in
        --port) port=$2 ;;
        --image) image=$2 ;;
        --name) name=$2 ;;
        *) run_options+=("$1" "$2") ;;
        esac
        shift 2
        ;;
    --help | -h) usage && exit 0 ;;
    -*) die "unknown option '$1'; see --help." ;;
    *) model=$1 && shift ;;
    esac
done
[ -e "$model" ] || die "MODEL is a model.tar.gz or a folder; '$model' is neither."
need_image "$image"

container=${name:-kennel-serve-local-$$}
unpacked=
clean() {
    status=$?
    if [ -z "$name" ] || [ "$status" != 0 ]; then
        docker rm --force "$container" >/dev/null 2>&1 || true
    fi
    if [ -n "$unpacked" ]; then rm -rf "$unpacked"; fi
}
trap clean EXIT

if [ -f "$model" ]; then
    [ -z "$name" ] || die "--name leaves the server running, which needs a folder that stays; unpack $model first."
    unpacked=$(mktemp -d)
    tar -xzf "$model" -C "$unpacked"
    model=$unpacked
fi
model=$(cd "$model" && pwd)

docker run --detach --name "$container" --publish "127.0.0.1:$port:8080" "${run_options[@]}" \
    --volume "$model:/opt/ml/model:ro" "$image" serve >/dev/null
# SageMaker gives a container four minutes to pass its first health check (ContainerStartupHealthCheckTimeoutInSeconds).
for _ in $(seq 480); do
    curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$port/ping" && break
    if [ "$(docker inspect --format '{{.State.Running}}' "$container")" != true ]; then
        docker logs "$container" >&2
        die "the server ended with status $(docker wait "$container") before it was healthy; its log stands above."
    fi
    sleep 0.5
done
curl --silent --fail --max-time 2 --output /dev/null "http://127.0.0.1:$port/ping" ||
    die "the server was not healthy after four minutes: docker logs $container"
say "healthy: http://127.0.0.1:$port/invocations (container $container)"
if [ -z "$name" ]; then
    docker logs --follow "$container" &
    wait $!
fi
