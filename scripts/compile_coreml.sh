#!/usr/bin/env bash
# Compiles the packages of a Core ML bundle, on a Mac with Xcode, into the folder that Apple's Swift
# library loads: BUNDLE/Resources with *.mlmodelc, controlnet/*.mlmodelc, vocab.json, merges.txt.
#
#     scripts/compile_coreml.sh BUNDLE
set -euo pipefail

if [ $# -ne 1 ] || [ ! -f "$1/manifest.json" ]; then
    echo "usage: $0 BUNDLE    (a folder made by \`kdexport coreml\`)" >&2
    exit 2
fi
if ! xcrun --find coremlcompiler >/dev/null 2>&1; then
    echo "error: there is no coremlcompiler; run this on a Mac with Xcode installed" >&2
    exit 1
fi

bundle=$1
resources=$bundle/Resources
staging=$bundle/.Resources.$$
trap 'rm -rf "$staging"' EXIT
trap 'exit 1' INT TERM
mkdir "$staging"

find "$bundle" -name '*.mlpackage' -prune | sort | while read -r package; do
    folder=$staging/$(dirname "${package#"$bundle"/}")
    mkdir -p "$folder"
    echo "compiling ${package#"$bundle"/}"
    xcrun coremlcompiler compile "$package" "$folder" >/dev/null
done
cp "$bundle/vocab.json" "$bundle/merges.txt" "$staging"

# Whole or not at all.
rm -rf "$resources"
mv "$staging" "$resources"
echo "Resources for Apple's library: $resources"
