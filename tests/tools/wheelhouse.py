"""Writes wheels of installed packages to a folder, so that `pip install` in a test needs no network.

    python wheelhouse.py FOLDER
"""

import re
import sys
import zipfile
from importlib import metadata
from pathlib import Path

ROOTS = ["fastapi", "uvicorn", "websockets", "httpx", "pyjwt", "cryptography", "flit-core"]


def dependencies(roots: list[str]) -> dict[str, metadata.Distribution]:
    """The installed packages among the roots and their dependencies."""
    found: dict[str, metadata.Distribution] = {}
    queue = list(roots)
    while queue:
        # the normalized name (PEP 503), so that a package is found once
        name = re.sub(r"[-_.]+", "-", queue.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            # an optional dependency, or one for another platform
            continue
        # only the name of a requirement such as `anyio<5; extra == "x"`
        queue += [re.match(r"[\w.-]+", requirement)[0] for requirement in found[name].requires or []]
    return found


def write_wheel(distribution: metadata.Distribution, folder: Path) -> None:
    """Packs the files of an installed package into a wheel."""
    # the first of several tags suffices on this machine
    tag = re.search(r"^Tag: (\S+)$", distribution.read_text("WHEEL"), re.MULTILINE)[1]
    name = re.sub(r"[-_.]+", "_", distribution.metadata["Name"])
    # the files that an installation adds; RECORD is written below
    skipped = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")
    # `..`: programs outside of the packages' folder
    files = [file for file in distribution.files if ".." not in file.parts and file.suffix != ".pyc"]
    files = [file for file in files if file.name not in skipped]
    (dist_info,) = {file.parts[0] for file in files if file.name == "METADATA" and file.parts[0].endswith(".dist-info")}
    with zipfile.ZipFile(folder / f"{name}-{distribution.version}-{tag}.whl", "w") as wheel:
        for file in files:
            wheel.write(file.locate(), str(file))
        # path, hash and size; pip accepts a RECORD without hashes and sizes
        lines = [f"{path},,\n" for path in [*files, f"{dist_info}/RECORD"]]
        wheel.writestr(f"{dist_info}/RECORD", "".join(lines))


for distribution in dependencies(ROOTS).values():
    write_wheel(distribution, Path(sys.argv[1]))
