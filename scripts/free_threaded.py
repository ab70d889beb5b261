"""Makes a free-threaded CPython in seconds, where no distribution has one: free_threaded.py VERSION
FOLDER ROOT.

The wheels of `freeze-core` on PyPI hold the free-threaded interpreter of the manylinux images, a
static executable, with all its extension modules and their libraries. The library in Python, its
tests and the headers are those of Debian's python3.14 or python3.15 under ROOT, which may be one
patch release newer. `pythons.sh make` calls this.
"""

import argparse
import pathlib
import pprint
import runpy
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable

# Of each version, the hash of the wheel; and pip's, as ensurepip has none in Debian.
FREEZE_CORE = "freeze-core==0.8.1"
WHEELS = {
    "3.14": "b8547956f9cbeabaae9cc758bbc65531962c3fb4fa0c2431c802089e7ea86cca",
    "3.15": "a1c31d6740d6d7ae858ab9e02231928cd49ee5f68d7980a8760b65f333c48890",
}
PIP = "pip==26.3"
PIP_WHEEL = "f3b60b20ffaadd4415ed7957212a38ac63fa4c5fa375bd0f4a797777940fad13"

MULTIARCH = "x86_64-linux-gnu"

# What Debian has for its own builds only.
NOT_COPIED = (
    *("lib-dynload", "config-*", "_sysconfig*", "build-details*", "__pycache__"),
    *("EXTERNALLY-MANAGED", "sitecustomize.py"),
)


class Failed(Exception):
    """There is no interpreter. The message is one line."""


def download(folder: pathlib.Path, requirement: str, digest: str, *options: str) -> pathlib.Path:
    """A wheel from PyPI with this hash."""
    file = folder / "requirements.txt"
    file.write_text(f"{requirement} --hash=sha256:{digest}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--require-hashes"]
    command += [*options, "--dest", str(folder), "--requirement", str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    name = requirement.partition("==")[0].replace("-", "_")
    found = list(folder.glob(f"{name}-*.whl"))
    if done.returncode or not found:
        lines = done.stderr.strip().splitlines() or ["pip has failed"]
        raise Failed(f"no {requirement} from PyPI: {lines[-1]}")
    return found[0]


def unpack(wheel: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The folder with a wheel's files."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def symbols(program: pathlib.Path) -> dict[str, int]:
    """The addresses of the functions that a program exports."""
    command = ["nm", "--dynamic", "--defined-only", str(program)]
    try:
        table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise Failed("nm is missing (Debian: apt install binutils)") from None
    except subprocess.CalledProcessError as error:
        raise Failed(f"nm: {error.stderr.strip()}") from None
    words = [line.split() for line in table.splitlines()]
    return {name.partition("@")[0]: int(address, 16) for address, _, name in words}


def as_python(base: pathlib.Path) -> bytes:
    """The executable with `python`'s own main function.

    Its own looks for a program that cx_Freeze has packed. A jump takes its place: the function that
    it goes to has the same arguments, and is in the same file.
    """
    image = bytearray(base.read_bytes())
    addresses = symbols(base)
    main, wanted = addresses["main"], addresses["Py_BytesMain"]
    # The table of program headers: where it begins, the size of one, their number.
    (start,) = struct.unpack_from("<Q", image, 0x20)
    size, count = struct.unpack_from("<HH", image, 0x36)
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack_from(
            "<IIQQQQ", image, start + index * size
        )
        if kind == 1 and address <= main < address + length:
            place = offset + main - address
            image[place : place + 5] = b"\xe9" + struct.pack("<i", wanted - (main + 5))
            return bytes(image)
    raise Failed(f"{base.name} has no main function")


def configuration(version: str, root: pathlib.Path, folder: pathlib.Path) -> str:
    """The module that sysconfig reads: Debian's, as it is in a free-threaded build in the
    folder."""
    name = f"python{version}t"
    debian = root / "usr" / "lib" / f"python{version}" / f"_sysconfigdata__linux_{MULTIARCH}.py"
    variables = dict(runpy.run_path(str(debian))["build_time_vars"])
    suffix = f"cpython-{version.replace('.', '')}t-{MULTIARCH}"
    library = folder / "lib" / name
    include = folder / "include" / name
    variables.update(
        {
            **dict.fromkeys(("ABIFLAGS", "ABI_THREAD"), "t"),
            **dict.fromkeys(("LIBRARY", "LDLIBRARY", "INSTSONAME"), f"lib{name}.a"),
            **dict.fromkeys(("prefix", "exec_prefix"), str(folder)),
            **dict.fromkeys(("LIBDEST", "BINLIBDEST"), str(library)),
            **dict.fromkeys(("INCLUDEPY", "CONFINCLUDEPY"), str(include)),
            **dict.fromkeys(("BLDLIBRARY", "LIBPL"), ""),
            "Py_GIL_DISABLED": 1,
            "Py_ENABLE_SHARED": 0,
            "SOABI": suffix,
            "EXT_SUFFIX": f".{suffix}.so",
            "LDVERSION": f"{version}t",
            "LIBDIR": str(folder / "lib"),
            "BINDIR": str(folder / "bin"),
            "DESTSHARED": str(library / "lib-dynload"),
            "CC": "gcc",
            "CXX": "g++",
            "CONFIG_ARGS": "--disable-gil",
            # Where ensurepip finds pip.
            "WHEEL_PKG_DIR": str(folder / "lib" / "wheels"),
        }
    )
    return f"build_time_vars = {pprint.pformat(variables)}\n"


def make(version: str, place: pathlib.Path, root: pathlib.Path, folder: pathlib.Path) -> None:
    """Make the files in `place`; they are for use in `folder`."""
    name = f"python{version}t"
    library, include = place / "lib" / name, place / "include" / name
    with tempfile.TemporaryDirectory() as temporary:
        work = pathlib.Path(temporary)
        tag = version.replace(".", "")
        options = ["--implementation", "cp", "--python-version", version, "--abi", f"cp{tag}t"]
        options += ["--platform", "manylinux2014_x86_64", "--platform", "manylinux_2_17_x86_64"]
        wheel = download(work, FREEZE_CORE, WHEELS[version], *options)
        pip = download(work, PIP, PIP_WHEEL)
        parts = unpack(wheel, work / "unpacked")
        debian = root / "usr" / "lib" / f"python{version}"
        ignored = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(debian, library, ignore=ignored, ignore_dangling_symlinks=True)
        shutil.copytree(root / "usr" / "include" / f"python{version}", include)
        (library / "lib-dynload").mkdir()
        for module in (parts / "freeze_core" / "lib").glob("*.so"):
            shutil.copy(module, library / "lib-dynload")
        # The modules look for their libraries at this place.
        shutil.copytree(parts / "freeze_core.libs", place / "lib" / "freeze_core.libs")
        (place / "lib" / "wheels").mkdir()
        shutil.copy(pip, place / "lib" / "wheels")
        program = place / "bin" / name
        program.parent.mkdir()
        bases = parts / "freeze_core" / "bases"
        program.write_bytes(as_python(bases / f"console-cpython-{tag}t-{MULTIARCH}"))
    program.chmod(0o755)
    for link in ("python", "python3", f"python{version}"):
        program.with_name(link).symlink_to(name)
    module = library / f"_sysconfigdata_t_linux_{MULTIARCH}.py"
    module.write_text(configuration(version, root, folder))
    header = root / "usr" / "include" / MULTIARCH / f"python{version}" / "pyconfig.h"
    undefined = "/* #undef Py_GIL_DISABLED */"
    text = header.read_text().replace(undefined, "#define Py_GIL_DISABLED 1")
    (include / "pyconfig.h").write_text(text)


def check(folder: pathlib.Path) -> None:
    """See to it that the interpreter starts, is free-threaded, and finds what it needs."""
    program = "import sys, ssl, venv, test.test_asyncio; sys.exit(sys._is_gil_enabled())"
    command = [str(folder / "bin" / "python"), "-I", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it has a GIL"]
        raise Failed(f"{folder}/bin/python does not work: {lines[-1]}")


def replaced(folder: pathlib.Path, fill: Callable[[pathlib.Path], None]) -> None:
    """Fill a folder beside this one, and put it in this one's place when it is whole."""
    new = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    fill(new)
    shutil.rmtree(folder, ignore_errors=True)
    new.rename(folder)


def main() -> int:
    """Make the interpreter; say in one line why there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", choices=sorted(WHEELS))
    parser.add_argument("folder", type=pathlib.Path, help="where the interpreter shall be")
    parser.add_argument("root", type=pathlib.Path, help="the system with Debian's interpreter")
    options = parser.parse_args()
    folder = options.folder.absolute()
    try:
        replaced(folder, lambda new: make(options.version, new, options.root, folder))
        check(folder)
    except (Failed, OSError, shutil.Error) as failure:
        print(f"free_threaded.py: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
