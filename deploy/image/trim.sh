#!/bin/sh
# Takes away what no service reads from /opt/ouroscope: half of what packages bring is there to build others, or to test.
# Licences and what an SBOM is made of stay. What is left is proved by running it (make images-test).
set -eu
site=$(echo /opt/ouroscope/lib/python3.*/site-packages)

find "$site" -depth -type d \( -name tests -o -name test \) -exec rm -rf {} +
find "$site" -type f \( -name '*.a' -o -name '*.c' -o -name '*.cc' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' \
  -o -name '*.pxd' -o -name '*.pxi' -o -name '*.pyi' -o -name '*.pyx' \) -delete
rm -rf /opt/ouroscope/include

# Of pyarrow, what asks servers (stores are read through fsspec), and second names of a library, which are whole copies.
for name in libarrow_flight libarrow_python_flight _flight libarrow_s3 _s3fs; do
  rm -f "$site/pyarrow/$name".*
done
rm -f "$site"/pyarrow/libarrow_python*.so "$site"/pyarrow/libarrow_python*.so.*.*.*

# Of scipy, what neither the analyzer nor networkit loads; a test holds this list to their imports.
for name in datasets differentiate fftpack integrate interpolate ndimage odr optimize signal stats; do
  rm -rf "$site/scipy/$name"
done

# Of the descriptions of four hundred services of AWS, those of storage and of signing in.
find "$site"/botocore/data -mindepth 1 -maxdepth 1 -type d ! -name s3 ! -name sts ! -name sso ! -name sso-oidc \
  ! -name signin -exec rm -rf {} +

# Libraries without the names that only a debugger reads. Not those that were moved into place by others (*.libs):
# changing them twice has broken them before.
find "$site" -name '*.so*' -type f ! -path '*.libs/*' -exec strip --strip-unneeded {} +
