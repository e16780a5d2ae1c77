#!/usr/bin/env bash
# Install the Debian packages that the display and browser tests need, or name them.
#
# Looks which of the markers `gui` and `browser` the tests use, so nothing is installed that no test needs.
# Never fails the run: without the packages those tests skip and say why, or are left out where not even Qt
# can be imported (the Makefile), and all others run.
set -euo pipefail
cd "$(dirname "$0")/.."

packages_of() {
    case $1 in
        gui) echo xvfb libegl1 libgl1 libdbus-1-3 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 \
            libxcb-image0 libxcb-keysyms1 libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 ;;
        browser) echo chromium chromium-driver ;;
    esac
}

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

command -v dpkg-query >/dev/null || exit 0
may_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# One marker after another: where a browser has another name, the display is installed nevertheless.
is_updated=no
for marker in gui browser; do
    grep -rqE "mark\.$marker\b" tests --include='*.py' || continue
    missing=()
    for package in $(packages_of "$marker"); do
        installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || continue
    if may_install; then
        echo "system packages: installing ${missing[*]}"
        [ $is_updated = yes ] || apt-get update -qq || true
        is_updated=yes
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null && continue
    fi
    echo "system packages: tests marked $marker will skip without these; to run them:"
    echo "    sudo apt-get install ${missing[*]}"
done
