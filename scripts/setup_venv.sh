#!/usr/bin/env bash
# Make a virtual environment with this project in it, editable, and what it needs.
#
#   scripts/setup_venv.sh VENV [EXTRAS]      e.g. scripts/setup_venv.sh .venv dev
#
# Runs on a bare Debian with Python 3.11: installs python3-venv where it is missing and may, and takes
# PyTorch's CPU build where no CUDA GPU is present. PYTHON names another interpreter.
set -euo pipefail

venv=${1:?"usage: scripts/setup_venv.sh VENV [EXTRAS]"}
extras=${2:-}
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.13}; do
        if supported "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "expected Python 3.11, 3.12 or 3.13, found ${PYTHON:-none}; install one (Debian: apt-get install" \
        "python3 python3-venv) or name it: make PYTHON=/path/to/python3.11"
}

# Debian ships venv without ensurepip until python3-venv is installed.
make_venv() {
    local python=$1
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
            say "installing Debian's python3-venv"
            apt-get update -qq
            DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >/dev/null
        else
            fail "$python cannot make virtual environments; run: sudo apt-get install python3-venv"
        fi
    fi
    "$python" -m venv "$venv"
}

has_cuda_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# The version of torch that pip would install now, or nothing where one that fits is installed already.
planned_torch() {
    "$pip" install --quiet --dry-run --no-deps --report - -c constraints/cpu.txt torch 2>/dev/null |
        "$venv/bin/python" -c 'import json, sys
for item in json.load(sys.stdin)["install"]:
    print(item["metadata"]["version"])'
}

# On Linux the default PyTorch build carries CUDA; the CPU build is marked +cpu and usually lies on PyTorch's own index.
install_cpu_torch() {
    local planned index=https://download.pytorch.org/whl/cpu
    planned=$(planned_torch) || fail "pip finds no torch for constraints/cpu.txt; is there a network, and is Python 64-bit?"
    case "$(uname -s):$planned" in
        *:) return ;;
        Linux:*+cpu | Darwin:*) "$pip" install --quiet -c constraints/cpu.txt torch ;;
        *)
            say "no CUDA GPU: taking PyTorch's CPU build from $index"
            if ! "$pip" install --quiet -c constraints/cpu.txt --index-url "$index" torch; then
                say "that index does not answer: taking the default build, which also runs on a CPU but is much larger"
                "$pip" install --quiet -c constraints/cpu.txt torch
            fi
            ;;
    esac
}

if ! [ -x "$venv/bin/python" ] || ! supported "$venv/bin/python"; then
    python=$(find_python)
    say "new environment $venv with $("$python" -V)"
    make_venv "$python"
    "$venv/bin/python" -m pip install --quiet --upgrade pip 2>/dev/null
fi
pip=$venv/bin/pip

constraint=()
if has_cuda_gpu; then
    say "CUDA GPU found: taking PyTorch's default build"
else
    install_cpu_torch
    constraint=(-c constraints/cpu.txt)
fi
say "installing sam-plugins${extras:+[$extras]} (some minutes the first time)"
"$pip" install --quiet ${constraint[@]+"${constraint[@]}"} -e ".${extras:+[$extras]}"
say "ready: $venv, PyTorch $("$venv/bin/python" -c 'import torch; print(torch.__version__)')"
