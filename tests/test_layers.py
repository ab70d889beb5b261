"""The house rules that a compiler does not check: who may import whom, where
`unsafe` may stand, how long a file may be, and that the docs name real paths."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent
CRATES = ROOT / "crates"
EXTENSION = CRATES / "aioxide" / "src"

# The rooms of the extension module: each imports only from those before it.
ROOMS = ("interop", "handles", "event_loop", "futures", "coroutines", "tasks",
         "sync", "waiting", "transports", "operations", "streams", "subprocess",
         "executor", "loop_api")

LONGEST = 800
LONG_FOR_A_REASON = f"Over {LONGEST} lines because"

DOCS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
        "docs/**/*.md", "benches/README.md", "examples/README.md",
        "tests/**/README.md")


def files(pattern, *folders):
    """Files of the repository, without what builds leave there."""
    for folder in folders:
        for file in sorted((ROOT / folder).glob(pattern)):
            if "target" not in file.relative_to(ROOT).parts:
                yield file


def name(file):
    return str(file.relative_to(ROOT))


RUST_TOKENS = re.compile(r"""
    (?P<line>//[^\n]*)
  | (?P<open>/\*)
  | (?P<raw>\bb?c?r(?P<hashes>\#*)"[\s\S]*?"(?P=hashes))
  | (?P<string>"(?:\\.|[^"\\])*")
  | (?P<char>'(?:\\[^']+|[^'\\])')
""", re.VERBOSE)


def code(text):
    """Rust source without its comments and the insides of its strings."""
    out = []
    place = 0
    while found := RUST_TOKENS.search(text, place):
        out.append(text[place:found.start()])
        place = found.end()
        if found["open"]:
            depth = 1
            while depth and (mark := re.compile(r"/\*|\*/").search(text, place)):
                depth += 1 if mark[0] == "/*" else -1
                place = mark.end()
        elif not found["line"]:
            out.append('""')
    return "".join(out) + text[place:]


def braced(text, start):
    """The parts of a `{a, b::{c}}` that begins at start, split at its own commas."""
    depth, part = 0, ""
    for letter in text[start:]:
        if letter == "{":
            depth += 1
            if depth == 1:
                continue
        elif letter == "}":
            depth -= 1
            if depth == 0:
                yield part
                return
        if letter == "," and depth == 1:
            yield part
            part = ""
        else:
            part += letter


def imported_rooms(source, depth):
    """Names that code imports from the crate's root; depth is that of its module."""
    for found in re.finditer(r"(?<![\w:])(crate|super(?:::super)*)::(\w+|\{)",
                             source):
        from_root = found[1] == "crate"
        if not from_root and found[1].count("super") != depth:
            continue
        parts = (braced(source, found.end() - 1) if found[2] == "{"
                 else [found[2]])
        for part in parts:
            first = re.match(r"\s*(\w+)", part)
            # In a module within a file, as many `super` mean another place.
            if first and (from_root or first[1] in ROOMS):
                yield first[1]


def module_depth(file):
    """How many `super` lead from a file's module to the crate's root."""
    parts = file.relative_to(EXTENSION).with_suffix("").parts
    return len(parts) - (parts[-1] == "mod")


def test_rooms_import_only_from_their_left():
    wrong = []
    for file in files("**/*.rs", EXTENSION):
        room = file.relative_to(EXTENSION).parts[0].removesuffix(".rs")
        if room == "lib":
            continue
        if room not in ROOMS:
            wrong.append(f"{name(file)}: no room is called {room}")
            continue
        for other in imported_rooms(code(file.read_text()), module_depth(file)):
            if other not in ROOMS:
                wrong.append(f"{name(file)} imports crate::{other}, "
                             "which is no room")
            elif ROOMS.index(other) > ROOMS.index(room):
                wrong.append(f"{name(file)} imports from its right: {other}")
    assert not wrong, "\n".join(wrong)


def test_the_import_rule_is_seen():
    """The reader of imports sees every way to write one."""
    source = code("""
        use crate::{interop, tasks::{Task, step}, /* sync */ futures as f};
        // use crate::streams::Reader;
        fn f() -> &'static str { super::super::handles::make(); "crate::loop_api" }
        fn g() { crate::event_loop::run(); other::crate_::nothing() }
    """)
    assert sorted(imported_rooms(source, 2)) == [
        "event_loop", "futures", "handles", "interop", "tasks"]


def manifest(crate):
    return (CRATES / crate / "Cargo.toml").read_text()


def test_engine_and_cpython_do_not_know_each_other():
    for crate, others in (("engine", ("cpython", "pyo3")),
                          ("cpython", ("engine",))):
        for other in others:
            assert not re.search(rf"(?m)^\s*(aioxide-)?{other}\b",
                                 manifest(crate)), (
                f"crates/{crate}/Cargo.toml depends on {other}")
            for file in files("**/*.rs", CRATES / crate):
                assert not re.search(rf"\b(aioxide_)?{other}::",
                                     code(file.read_text())), (
                    f"{name(file)} names {other}")


def test_engine_and_cpython_do_not_know_the_extension_module():
    for crate in ("engine", "cpython"):
        assert not re.search(r"(?m)^\s*aioxide\s*=", manifest(crate))


def test_unsafe_stands_only_where_it_may():
    allowed = (CRATES / "engine" / "src" / "sys", CRATES / "cpython")
    wrong = [name(file) for file in files("**/*.rs", "crates", "benches")
             if not any(file.is_relative_to(folder) for folder in allowed)
             and file != CRATES / "engine" / "src" / "sys.rs"
             and re.search(r"\bunsafe\b", code(file.read_text()))]
    assert not wrong, wrong


def test_files_are_short():
    wrong = []
    for pattern in ("**/*.rs", "**/*.py", "**/*.pyi", "**/*.sh"):
        for file in files(pattern, "crates", "python", "tests", "scripts",
                          "benches", "examples"):
            lines = file.read_text().splitlines()
            head = " ".join(line.strip("/#! ") for line in lines[:20])
            if len(lines) > LONGEST and LONG_FOR_A_REASON not in head:
                wrong.append(f"{name(file)}: {len(lines)} lines, and its head "
                             f"does not say '{LONG_FOR_A_REASON} …'")
    assert not wrong, "\n".join(wrong)


def named_paths(text):
    """Paths that a Markdown text names: links, and code that looks like one."""
    blocks = re.findall(r"(?ms)^```[^\n]*\n(.*?)^```", text)
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in target and not target.startswith(("#", "mailto:")):
            yield target.partition("#")[0], True
    for span in [*re.findall(r"`([^`\n]+)`", prose), *blocks]:
        for word in re.split(r"[\s,;:()]+", span):
            yield word, False


def test_the_docs_name_paths_that_exist():
    top = {file.name for file in ROOT.iterdir()}
    # What builds and runs leave behind is named, but is not there.
    made = tuple(line.strip("/*") for line in
                 (ROOT / ".gitignore").read_text().splitlines()
                 if line.startswith("/"))
    wrong = []
    for doc in (file for pattern in DOCS for file in ROOT.glob(pattern)):
        for path, is_link in named_paths(doc.read_text()):
            path = path.removeprefix("./").rstrip("/.")
            if (not path or any(mark in path for mark in "…<>{}$")
                    or path.startswith(made)):
                continue
            if is_link:
                found = (doc.parent / path).exists()
            else:
                # A word is a path of the repository if it begins like one.
                first = path.partition("/")[0]
                if "/" not in path or first not in top:
                    continue
                found = any(ROOT.glob(path))
            if not found:
                wrong.append(f"{name(doc)} names {path}")
    assert not wrong, "\n".join(wrong)


def test_the_docs_are_there():
    for doc in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md",
                "CHANGELOG.md", "docs/compatibility.md", "docs/glossary.md"):
        assert (ROOT / doc).exists(), doc
