#!/bin/sh
# Compile requirements.in into requirements.lock, for Python 3.11 and newer.
# No index host is written: whoever installs brings their own index.
set -eu
cd "$(dirname -- "$0")/.."
uv pip compile requirements.in --output-file requirements.lock \
    --universal --python-version 3.11 --generate-hashes \
    --no-emit-index-url --no-header --quiet "$@"
grep -nE '://' requirements.lock && {
    echo 'requirements.lock names a host; nothing may be installed from a URL' >&2
    exit 1
}
exit 0
