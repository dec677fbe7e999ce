#!/bin/sh
# Makes /opt/ouroscope final: compiled files for the modules that are given and all that they import, the list of its
# parts, one date for every file.
set -eu
tools=/opt/tools/bin
target=/opt/ouroscope

# The tree is read-only, so what is not compiled here is compiled at every start; of all packages together that would be
# half as much again as there is. By hash: dates would tell nothing.
files=$(mktemp)
"$target/bin/python" -c '
import importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
files = {str(getattr(module, "__file__", None)) for module in sys.modules.values()}
print(*sorted(file for file in files if file.startswith(sys.prefix) and file.endswith(".py")), sep="\n")
' "$@" > "$files"
"$target/bin/python" -m compileall -q --invalidation-mode unchecked-hash -i "$files"
rm "$files"
# Ray starts programs of its own, which nothing above imports.
for folder in "$target"/lib/python3.*/site-packages/ray; do
  [ ! -d "$folder" ] || "$target/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$folder"
done

"$tools/cyclonedx-py" environment --pyproject pyproject.toml --output-reproducible --of JSON \
  --output-file "$target/sbom.cdx.json" "$target/bin/python"
find "$target" -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
