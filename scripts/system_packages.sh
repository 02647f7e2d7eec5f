#!/usr/bin/env bash
# Installs Graphviz and Chromium where they are missing and we may; elsewhere it says which tests will be skipped.
set -euo pipefail

missing=()
command -v dot >/dev/null || missing+=(graphviz)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || missing+=(chromium)
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # Broken third-party lists need not stop us: the install says soon enough what it cannot find.
    apt-get update -qq || echo "apt-get update failed, trying with the lists that are there"
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || {
        [ "${CI:-}" != true ] || exit 1
        echo "could not install ${missing[*]}: the tests that need it will be skipped"
    }
else
    echo "not installed: ${missing[*]} (the tests that need it will be skipped; as root, this script installs it)"
fi
