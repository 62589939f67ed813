#!/usr/bin/env bash
# Makes a base image from Debian packages, for places that no image registry can be reached from.
set -euo pipefail

usage() {
    cat <<'HELP'
usage: docker/make_base_image.sh [--force] [NAME]

Makes a base image of Debian 12 and its python3.11, to stand in for the CUDA base image. The images built on it
are complete (torch's packages bring their own CUDA libraries) but were never run on a GPU. The certificates this
machine trusts go into the image, so that builds work behind a proxy that inspects TLS: do not publish it.

  NAME       the image's name (default: kennel-base:bookworm); printed on stdout when the image is there
  --force    make it again although it is there
  -h, --help this text

needs: docker, and mmdebstrap (apt-get install mmdebstrap)

examples:
  docker/make_base_image.sh
  ./build_and_push.sh --no-push --base-image "$(docker/make_base_image.sh)"
HELP
}

die() {
    echo "make_base_image: $*" >&2
    exit 1
}

name=kennel-base:bookworm
force=false
while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --force) force=true ;;
        -*) die "unknown option '$1'. See docker/make_base_image.sh --help." ;;
        *) name=$1 ;;
    esac
    shift
done

ca_bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
in_image=/etc/ssl/certs/build-host.crt # its own name: update-ca-certificates rewrites ca-certificates.crt

command -v docker >/dev/null || die "docker is not on PATH. Install it (Debian: apt-get install docker.io)."
docker info >/dev/null 2>&1 || die "no docker daemon answers. Start one (as root: dockerd), or add yourself to the group 'docker'."
if ! $force && docker image inspect "$name" >/dev/null 2>&1; then
    echo "make_base_image: $name is there already; --force makes it again." >&2
    echo "$name"
    exit
fi
command -v mmdebstrap >/dev/null || die "mmdebstrap is not on PATH. Install it (apt-get install mmdebstrap), or give the builds another --base-image."
[[ -r $ca_bundle ]] || die "the certificate bundle '$ca_bundle' cannot be read. Install ca-certificates, or set SSL_CERT_FILE."

change=(
    --change 'LABEL org.opencontainers.image.title="Kennel stand-in base: Debian 12 from packages"'
    --change 'LABEL kennel.base=stand-in'
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
)
for variable in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE; do
    change+=(--change "ENV $variable=$in_image")
done

mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3.11 \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --customize-hook="upload $ca_bundle $in_image" \
    bookworm - | docker import "${change[@]}" - "$name" >&2
echo "$name"
