#!/usr/bin/env bash
# Builds the train and serve images, tags them by git revision and pushes them where SageMaker can take them from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'HELP'
usage: ./build_and_push.sh [options]

Builds kennel-train and kennel-serve, tags them with the git revision and pushes them to Amazon ECR. Repositories are
created where missing (scan on push, immutable tags). Prints one line an image, 'NAME:TAG DIGEST', on stdout and
everything else on stderr. Locally each image is also tagged 'latest'; that tag is never pushed.

The tag is 12 digits of the revision; '-dirty-' and a hash of the tree's content where that was never committed;
'-with-' and a hash of the options where they change what is in the image.

what to build
  --only TARGET             train, serve, or serve-mms, which is built only where it is asked for
  --train-name NAME         repository of the train image (default: kennel-train)
  --serve-name NAME         repository of the serve image (default: kennel-serve)
  --serve-mms-name NAME     repository of the serve image with multi-model-server and a Java runtime
                            (default: kennel-serve-mms)
  --base-image IMAGE        instead of the Dockerfile's CUDA base, such as the one docker/make_base_image.sh makes
  --platform PLATFORM       default: linux/amd64, which is what SageMaker's instances run
  --pretrained-url URL      bake first weights into the train image, for jobs without a network
  --pretrained-sha256 HEX   their SHA-256; the build fails on any other file
  --pretrained-arch NAME    whose weights they are (default: resnet18)

where to push
  --no-push                 build and tag only; the digests printed are then the local image IDs
  --registry HOST[/PATH]    any other registry, for which you have run 'docker login'; makes no AWS call
  --region REGION           of ECR (default: AWS_REGION, AWS_DEFAULT_REGION, or that of the aws profile)

  --check IMAGE             only check that SageMaker can take an image from its registry
  -h, --help                this text

environment
  AWS_PROFILE, AWS_ENDPOINT_URL, ...   as the aws command reads them
  BASE_IMAGE                default of --base-image
  KENNEL_ECR_HOST           push here instead of ACCOUNT.dkr.ecr.REGION.amazonaws.com (a VPC endpoint, a test)
  KENNEL_BUILD_NETWORK      network of the build's containers, as 'docker build --network' takes it
  UV_PYTHON_INSTALL_MIRROR  where uv fetches Python 3.11 for a base image that has none (default: GitHub)

examples:
  ./build_and_push.sh --no-push
  ./build_and_push.sh --region eu-central-1
  ./build_and_push.sh --registry 127.0.0.1:5000 --only serve
  ./build_and_push.sh --no-push --only serve-mms
HELP
}

say() { echo "build_and_push: $*" >&2; }

die() {
    say "$*"
    exit 1
}

parse() {
    only='' platform=linux/amd64 base_image=${BASE_IMAGE:-} push=true registry='' region='' check=''
    pretrained_url='' pretrained_sha256='' pretrained_arch=resnet18
    # shellcheck disable=SC2034 # read by way of ${!name}
    train_name=kennel-train serve_name=kennel-serve serve_mms_name=kennel-serve-mms
    while (($#)); do
        case $1 in
            -h | --help)
                usage
                exit
                ;;
            --no-push)
                push=false
                shift
                continue
                ;;
            --only | --train-name | --serve-name | --serve-mms-name | --base-image | --platform | --pretrained-url | \
                --pretrained-sha256 | --pretrained-arch | --registry | --region | --check)
                [[ -n ${2:-} ]] || die "$1 needs a value. See ./build_and_push.sh --help."
                ;;
            *) die "unknown argument '$1'. See ./build_and_push.sh --help." ;;
        esac
        local variable=${1#--}
        printf -v "${variable//-/_}" %s "$2"
        shift 2
    done
    case $only in
        '' | train | serve | serve-mms) ;;
        *) die "--only has value '$only'. Give train, serve or serve-mms." ;;
    esac
    if [[ -n $pretrained_url && -z $pretrained_sha256 ]] || [[ -z $pretrained_url && -n $pretrained_sha256 ]]; then
        die "--pretrained-url and --pretrained-sha256 belong together. Give both or none."
    fi
    if [[ -n $pretrained_sha256 && ! $pretrained_sha256 =~ ^[0-9a-fA-F]{64}$ ]]; then
        die "--pretrained-sha256 has value '$pretrained_sha256'. Give 64 hexadecimal digits, as sha256sum prints."
    fi
    if ! $push && [[ -n $registry ]]; then
        die "--no-push and --registry exclude each other. Leave one out."
    fi
}

require_docker() {
    command -v docker >/dev/null || die "docker is not on PATH. Install Docker, or another program of that name."
    docker info >/dev/null 2>&1 || die "no docker daemon answers. Start it, or join the group 'docker', then try again."
}

# ---- what the images are called ---------------------------------------------------------------------------------------

# The whole tree's hash, with what was never committed; through an index and an object store of its own.
content_hash() {
    local scratch
    scratch=$(mktemp -d)
    cp "$(git rev-parse --git-path index)" "$scratch/index" 2>/dev/null || true
    GIT_ALTERNATE_OBJECT_DIRECTORIES=$(git rev-parse --path-format=absolute --git-path objects)
    export GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_OBJECT_DIRECTORY=$scratch GIT_INDEX_FILE=$scratch/index
    git add --all 2>/dev/null && git write-tree
    rm -rf "$scratch"
}

revision_tag() {
    local revision options
    git rev-parse --git-dir >/dev/null 2>&1 || die "$PWD is not a git tree, so there is no revision to tag with. Clone the repository."
    revision=$(git rev-parse --verify --quiet --short=12 HEAD) || die "there is no commit to tag with. Commit first."
    if [[ -n $(git status --porcelain) ]]; then
        revision+=-dirty-$(content_hash | cut -c1-8) || die "cannot hash the changed tree; 'git add --all --dry-run' says why."
    fi
    options="${base_image:+ base $base_image}${pretrained_sha256:+ weights $pretrained_arch $pretrained_sha256}"
    [[ $platform == linux/amd64 ]] || options+=" platform $platform"
    if [[ -n $options ]]; then
        revision+=-with-$(git hash-object --stdin <<<"$options" | cut -c1-8)
    fi
    echo "$revision"
}

# Where the source is public; a path on this machine would mean nothing to whoever reads the label.
source_url() {
    local url
    url=$(git remote get-url origin 2>/dev/null) || true
    case $url in
        *://*@*) echo "${url%%://*}://${url#*@}" ;; # without credentials
        http://* | https://* | ssh://* | git@*) echo "$url" ;;
        *) echo unknown ;;
    esac
}

# ---- build ------------------------------------------------------------------------------------------------------------

build() { # TARGET NAME
    local target=$1 name=$2 command=(docker build)
    if docker buildx version >/dev/null 2>&1; then
        # SageMaker refuses OCI manifests and lists, which is what attestations turn an image into.
        command=(docker buildx build --provenance=false --sbom=false --output type=docker)
    fi
    command+=(--file docker/Dockerfile --target "$target" --platform "$platform"
        --tag "$name:$tag" --tag "$name:latest"
        --build-arg "REVISION=$tag" --build-arg "VERSION=$version" --build-arg "SOURCE=$source"
        --build-arg "PRETRAINED_URL=$pretrained_url" --build-arg "PRETRAINED_SHA256=$pretrained_sha256"
        --build-arg "PRETRAINED_ARCH=$pretrained_arch")
    [[ -z $base_image ]] || command+=(--build-arg "BASE_IMAGE=$base_image")
    [[ -z ${UV_PYTHON_INSTALL_MIRROR:-} ]] || command+=(--build-arg "UV_PYTHON_INSTALL_MIRROR=$UV_PYTHON_INSTALL_MIRROR")
    [[ -z ${KENNEL_BUILD_NETWORK:-} ]] || command+=(--network "$KENNEL_BUILD_NETWORK")
    say "building $name:$tag"
    "${command[@]}" . >&2 || die "building $name failed; the reason is above."
    say "$name:$tag has $(($(docker image inspect --format '{{.Size}}' "$name:$tag") / 1000000)) MB, layers shared with the other image included"
}

# ---- push -------------------------------------------------------------------------------------------------------------

aws_or_die() { # WHAT ARGUMENT...
    local what=$1 out
    shift
    if ! out=$(aws "$@" 2>"$scratch/aws"); then
        die "cannot $what: $(grep . "$scratch/aws" | tail -n 1) Check AWS_PROFILE and 'aws sts get-caller-identity', or use --registry or --no-push."
    fi
    echo "$out"
}

open_ecr() {
    local account domain=amazonaws.com
    command -v aws >/dev/null || die "the aws command is not on PATH. Install it (pip install awscli), or use --registry or --no-push."
    region=${region:-${AWS_REGION:-${AWS_DEFAULT_REGION:-$(aws configure get region || true)}}}
    [[ -n $region ]] || die "no AWS region is set. Give --region, or set AWS_REGION."
    export AWS_REGION=$region AWS_DEFAULT_REGION=$region # version 1 of the aws command reads the latter only
    account=$(aws_or_die "find the AWS account" sts get-caller-identity --query Account --output text)
    [[ $region != cn-* ]] || domain=amazonaws.com.cn
    registry=${KENNEL_ECR_HOST:-$account.dkr.ecr.$region.$domain}
    log_in=true
}

log_in_to_ecr() { # after the build: the password lasts 12 hours
    local password
    password=$(aws_or_die "get a password for ECR" ecr get-login-password)
    docker login --username AWS --password-stdin "$registry" <<<"$password" >/dev/null 2>"$scratch/login" ||
        die "docker login to $registry failed: $(tail -n 1 "$scratch/login")"
}

ensure_repository() { # NAME
    local out
    if out=$(aws ecr describe-repositories --repository-names "$1" 2>&1); then
        return
    fi
    [[ $out == *RepositoryNotFoundException* ]] || die "cannot look for the ECR repository '$1': $(tail -n 1 <<<"$out")"
    say "creating the ECR repository $1 in $region (scan on push, immutable tags; storage is charged by the GB)"
    aws_or_die "create the ECR repository '$1'" ecr create-repository --repository-name "$1" \
        --image-scanning-configuration scanOnPush=true --image-tag-mutability IMMUTABLE >/dev/null
}

digest_in_ecr() { # NAME; empty when there is no such tag
    local out
    if out=$(aws ecr describe-images --repository-name "$1" --image-ids "imageTag=$tag" \
        --query 'imageDetails[0].imageDigest' --output text 2>&1); then
        echo "$out"
    elif [[ $out != *ImageNotFoundException* ]]; then
        die "cannot look for $1:$tag in ECR: $(tail -n 1 <<<"$out")"
    fi
}

# SageMaker takes one kind of manifest only; an image of another kind fails later, when the job starts.
check_manifest() { # IMAGE; prints its digest
    local image=$1 wanted=application/vnd.docker.distribution.manifest.v2+json insecure=() manifest media_type
    case $image in
        127.* | localhost[:/]*) insecure=(--insecure) ;;
    esac
    manifest=$(docker manifest inspect --verbose ${insecure[@]+"${insecure[@]}"} "$image" 2>&1) ||
        die "cannot read the manifest of $image: $(tail -n 1 <<<"$manifest")"
    if [[ $manifest == '['* ]]; then
        die "$image is a list of manifests, which SageMaker refuses. Build without attestations and for one platform (--provenance=false --sbom=false)."
    fi
    media_type=$(descriptor mediaType <<<"$manifest")
    [[ $media_type == "$wanted" ]] ||
        die "$image has a manifest of type '$media_type', which SageMaker refuses; it takes '$wanted' only. Build with '--output type=docker', and push from docker's classic image store."
    descriptor digest <<<"$manifest"
}

descriptor() { # FIELD of the first descriptor in 'docker manifest inspect --verbose'
    sed -n "/\"Descriptor\"/,/}/s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" | sed -n 1p # head would break the pipe
}

push() { # NAME
    local name=$1 remote=$registry/$1:$tag existing='' digest
    if $log_in; then
        ensure_repository "$name"
        existing=$(digest_in_ecr "$name")
    fi
    if [[ -n $existing ]]; then
        say "$name:$tag is in ECR already and tags are immutable there: that image is used, not the one just built"
        check_manifest "$remote" >/dev/null
        echo "$remote $existing"
        return
    fi
    docker tag "$name:$tag" "$remote"
    say "pushing $remote"
    docker push "$remote" >&2 || die "pushing $remote failed; the reason is above."
    digest=$(check_manifest "$remote")
    echo "$remote $digest"
}

main() {
    parse "$@"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    require_docker
    if [[ -n $check ]]; then
        local digest
        digest=$(check_manifest "$check")
        echo "$check $digest"
        return
    fi
    log_in=false
    tag=$(revision_tag)
    version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/kennel/__init__.py)
    source=$(source_url)
    if $push && [[ -z $registry ]]; then
        open_ecr # before the build: a missing login shows now, not after minutes
    fi

    local names=() targets=(train serve) target name
    [[ -z $only ]] || targets=("$only")
    for target in "${targets[@]}"; do
        name=${target//-/_}_name
        build "$target" "${!name}"
        names+=("${!name}")
    done
    if $log_in; then
        log_in_to_ecr
    fi
    for name in "${names[@]}"; do
        if $push; then
            push "$name"
        else
            echo "$name:$tag $(docker image inspect --format '{{.Id}}' "$name:$tag")"
        fi
    done
}

main "$@"
