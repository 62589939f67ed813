#!/bin/bash
# Leaves a Python 3.11 at /opt/python: the base image's own, or else the one that uv carries a SHA-256 for.
set -euo pipefail

version=${1:?the version that uv fetches, such as 3.11.18}

# A pre-release does not count: Ubuntu 22.04's python3.11 is 3.11.0rc1, without the
# sys.get_int_max_str_digits that torch asks for, and without a security update since.
if found=$(command -v python3.11) && "$found" -c 'import sys; sys.exit(sys.version_info.releaselevel != "final")'; then
    mkdir -p /opt/python/bin
    ln -s "$found" /opt/python/bin/python3.11
    apt-get update
    apt-get install -y --no-install-recommends libpython3.11-dev # Python.h, for sagemaker-training's C extension
    rm -rf /var/lib/apt/lists/*
else
    [[ -n ${UV_PYTHON_INSTALL_MIRROR:-} ]] || unset UV_PYTHON_INSTALL_MIRROR # uv takes an empty mirror for a folder
    uv python install --no-bin --install-dir /opt/uv-python "$version" || {
        echo "provide_python: the base image has no final release of Python 3.11 and uv cannot fetch one. Let the build" \
            "reach GitHub, name a mirror (UV_PYTHON_INSTALL_MIRROR), or give a base image that has python3.11." >&2
        exit 1
    }
    mv /opt/uv-python/cpython-"$version"-* /opt/python
    cd /opt/python
    rm -rf lib/python3.11/{ensurepip,idlelib,test,tkinter,turtledemo} lib/python3.11/site-packages/{pip*,setuptools*} \
        bin/{pip,idle,pydoc,2to3}* lib/{tcl*,tk*,itcl*,thread*} share
fi
/opt/python/bin/python3.11 --version
