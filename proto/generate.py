"""Write `ouroscope/v1` from `proto/ouroscope/v1`; the only writer of generated code (`make proto`).

Google's interface definitions are not copied in: an include folder is assembled from the installed
googleapis-common-protos, which ships `operations_proto.proto` where protoc wants `operations.proto`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from importlib import resources
from pathlib import Path

from grpc_tools import protoc

SOURCES = Path(__file__).parent
GOOGLE_FILES = (
    "api/annotations.proto",
    "api/client.proto",
    "api/field_behavior.proto",
    "api/http.proto",
    "api/launch_stage.proto",
    "rpc/error_details.proto",
    "rpc/status.proto",
    "longrunning/operations_proto.proto",
)


def assemble_includes(folder: Path) -> Path:
    """Copy google's definitions into `folder`, each under the name that imports ask for."""
    installed = resources.files("google")
    for name in GOOGLE_FILES:
        target = folder / "google" / name.replace("operations_proto", "operations")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((installed / name).read_bytes())
    well_known = Path(str(resources.files("grpc_tools") / "_proto"))
    shutil.copytree(well_known, folder, dirs_exist_ok=True)
    return folder


def generate(out: Path) -> None:
    """Write messages, services and typed stubs for every proto file into `out/ouroscope/v1`."""
    files = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.glob("ouroscope/v1/*.proto"))
    with tempfile.TemporaryDirectory() as includes:
        assemble_includes(Path(includes))
        kinds = ("python", "grpc_python", "mypy", "mypy_grpc")
        outs = [f"--{kind}_out={out}" for kind in kinds]
        # Beside this interpreter and not on the PATH: the virtual environment need not be activated.
        beside = Path(sys.executable).parent
        plugins = [f"--plugin=protoc-gen-{kind}={beside / f'protoc-gen-{kind}'}" for kind in ("mypy", "mypy_grpc")]
        status = protoc.main(["protoc", f"-I{SOURCES}", f"-I{includes}", *plugins, *outs, *files])
    if status:
        sys.exit(f"protoc failed with status {status}")
    (out / "ouroscope/v1/__init__.py").write_text('"""GENERATED from proto/ouroscope/v1 by `make proto`."""\n')


def release(image: Path) -> None:
    """Write the contract as one image, against which later versions are checked for breaking changes."""
    files = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.glob("ouroscope/v1/*.proto"))
    with tempfile.TemporaryDirectory() as includes:
        assemble_includes(Path(includes))
        options = [f"-I{SOURCES}", f"-I{includes}", "--include_imports", f"--descriptor_set_out={image}"]
        status = protoc.main(["protoc", *options, *files])
    if status:
        sys.exit(f"protoc failed with status {status}")


def main() -> None:
    """Generate into the repository, or elsewhere to look for drift."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=SOURCES.parent, help="root of the generated package")
    parser.add_argument("--includes", type=Path, help="only assemble the include folder here, for buf")
    parser.add_argument("--release", type=Path, help="write the image of the released contract here")
    arguments = parser.parse_args()
    if arguments.includes:
        assemble_includes(arguments.includes)
    elif arguments.release:
        release(arguments.release)
    else:
        generate(arguments.out)


if __name__ == "__main__":
    main()
