#!/usr/bin/env bash
# Make the environment of the Label Studio server that the tests drive, once a machine, and print its program.
#
#   scripts/setup_label_studio.sh            e.g. SAM_PLUGINS_TEST_LABEL_STUDIO=$(scripts/setup_label_studio.sh)
#
# It is no part of the development environment: Label Studio pins other versions of what we need ourselves. It lies in
# the user's cache, so that a fresh checkout or `rm -rf build` does not install it again.
# Never fails the run: where it cannot be installed nothing is printed, and the tests that need it skip and say why.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.23.2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'label-studio: %s\n' "$*" >&2; }

if [ -n "${SAM_PLUGINS_TEST_LABEL_STUDIO:-}" ]; then
    printf '%s\n' "$SAM_PLUGINS_TEST_LABEL_STUDIO"
    exit 0
fi

python=${PYTHON:-python3}
number=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
venv=${XDG_CACHE_HOME:-$HOME/.cache}/sam-plugins-tests/label-studio-$version-python-$number
mkdir -p "$(dirname "$venv")"

# Two runs at once: the second one waits, and finds it made.
if command -v flock >/dev/null; then
    exec 9>"$venv.lock"
    flock 9
fi

# The stamp comes last: what was cut off in the middle is made again. An environment cannot be moved, so not by renaming.
if ! [ -f "$venv/.installed" ]; then
    rm -rf "$venv"
    say "installing $version into $venv (some minutes, once)"
    if ! { "$python" -m venv "$venv" && "$venv/bin/pip" install -qq "label-studio==$version"; } >&2; then
        rm -rf "$venv"
        say "cannot be installed here: the tests that drive a real server skip"
        exit 0
    fi
    touch "$venv/.installed"
fi
printf '%s\n' "$venv/bin/label-studio"
