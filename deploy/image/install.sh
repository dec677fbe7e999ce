#!/bin/sh
# Installs Ouroscope with the extras of the first argument, and those of the second, into /opt/ouroscope; the Dockerfile
# runs it for each image.
set -eu
extras=$1${2:+,$2}
tools=/opt/tools/bin
target=/opt/ouroscope

# No pip in it: nothing is installed in a running container.
python -m venv --without-pip "$target"

# No source distribution either: it would run a program of strangers, and might want a compiler.
install() {
  "$tools/pip" --python "$target/bin/python" install --quiet --no-compile --only-binary :all: \
    --constraint constraints.txt "$@"
}

if [ "${ACCELERATOR:-}" = cpu ]; then
  # Only torch from there; without an address, from where the installation finds a build for the processor.
  install --no-deps ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
fi
for wheel in /opt/wheels/ouroscope-*.whl; do
  install "$wheel[$extras]"
done
case ${ACCELERATOR:-none} in
  cpu) "$target/bin/python" -c 'import sys, torch; sys.exit("this torch is built for CUDA: give TORCH_INDEX" if torch.version.cuda else 0)' ;;
  cuda) "$target/bin/python" -c 'import sys, torch; sys.exit(0 if torch.version.cuda else "this torch is not built for CUDA")' ;;
  none) ;;
  *) echo "ACCELERATOR is $ACCELERATOR, and must be cpu or cuda" >&2; exit 1 ;;
esac
