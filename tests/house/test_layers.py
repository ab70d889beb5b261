"""The house rules that a compiler does not check: which room may import from
which, where `unsafe` may stand, how long a file may be, that the docs name real
paths, that a type has a name of its own, and how sentences look."""

import ast
import itertools
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
CRATES = ROOT / "crates"
EXTENSION = CRATES / "aioxide" / "src"

# The rooms of the extension module: each imports only from those before it.
ROOMS = ("interop", "handles", "event_loop", "futures", "coroutines", "tasks",
         "sync", "waiting", "transports", "tls", "operations", "streams",
         "subprocess", "executor", "loop_api")

LONGEST = 800
LONG_FOR_A_REASON = f"Over {LONGEST} lines because"

DOCS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md",
        "RELEASING.md", "SECURITY.md",
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


# The number of files of each room that are in circles: they import each other,
# over however many files. A room that is not here has none, and a number may
# only become smaller.
IN_CIRCLES = {
    "handles": 3, "event_loop": 5, "futures": 7, "coroutines": 2, "tasks": 5,
    "transports": 8, "tls": 7, "operations": 4, "streams": 2, "subprocess": 4,
    "executor": 4,
}


def modules(room):
    """The modules of a room, by path: `transports::pipes::channel` as a tuple."""
    found = {}
    for file in files("**/*.rs", EXTENSION / room):
        path = file.relative_to(EXTENSION).with_suffix("").parts
        found[path[:-1] if path[-1] == "mod" else path] = code(file.read_text())
    return found


def named(tree):
    """The paths that the rest of a `use` names, each with the name it gets."""
    tree = tree.strip()
    if "{" in tree:
        start = tree.index("{")
        prefix = tree[:start].strip().removesuffix("::")
        for part in braced(tree, start):
            for path, alias in named(part):
                yield ([*prefix.split("::")] if prefix else []) + path, alias
        return
    path, _, alias = tree.partition(" as ")
    path = [part.strip() for part in path.split("::") if part.strip()]
    if path and path[-1] == "self":
        path.pop()
    if path:
        yield path, alias.strip() or path[-1]


def absolute(path, module):
    """A path as it is from the crate's root; None if it leads out of the crate."""
    if path[0] == "crate":
        return tuple(path[1:])
    if path[0] not in ("self", "super"):
        return None
    place = list(module)
    rest = list(path)
    while rest and rest[0] in ("self", "super"):
        if rest.pop(0) == "super":
            if not place:
                return None
            place.pop()
    return tuple(place + rest)


USE = re.compile(r"\b(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])((?:crate|self|super)(?:::\w+)+)")


def references(module, source, children):
    """What a module's code names: absolute paths."""
    for found in USE.finditer(source):
        for path, _ in named(found[2]):
            # `use deque::Deque;` in a mod.rs: a path from the module itself.
            if path[0] in children:
                path = ["self", *path]
            if (target := absolute(path, module)) is not None:
                yield target
    rest = USE.sub("", source)
    for found in PATH.finditer(rest):
        if (target := absolute(found[1].split("::"), module)) is not None:
            yield target
    for child in children:
        # `lock::build(py)` in a mod.rs.
        for found in re.finditer(rf"(?<![\w:.]){child}::(\w+)", rest):
            yield (*module, child, found[1])


def exports(found):
    """The names that a mod.rs hands on from elsewhere, with the paths they have."""
    handed_on = {}
    for module, source in found.items():
        children = {path[-1] for path in found if path[:-1] == module}
        for use in USE.finditer(source):
            for path, alias in named(use[2]):
                if path[0] in children:
                    path = ["self", *path]
                if (target := absolute(path, module)) is not None:
                    handed_on[*module, alias] = target
    return handed_on


def imports(found):
    """Which modules each module of a room imports from, through re-exports."""
    handed_on = exports(found)
    graph = {module: set() for module in found}
    for module, source in found.items():
        children = {path[-1] for path in found if path[:-1] == module}
        for target in references(module, source, children):
            for _ in range(8):
                if target in found or target not in handed_on:
                    break
                target = handed_on[target]
            while target and target not in found:
                target = target[:-1]
            if target and target != module:
                graph[module].add(target)
    return graph


def circles(graph):
    """The sizes of the circles, the largest first."""
    def reached(start):
        seen, todo = set(), [start]
        while todo:
            for other in graph[todo.pop()]:
                if other not in seen:
                    seen.add(other)
                    todo.append(other)
        return seen

    from_each = {module: reached(module) for module in graph}
    in_circles = {frozenset(other for other in from_each[module]
                            if module in from_each[other])
                  for module in graph if module in from_each[module]}
    return sorted(in_circles, key=lambda circle: (-len(circle), sorted(circle)))


def test_files_of_a_room_do_not_import_each_other():
    wrong = []
    for room in ROOMS:
        found = circles(imports(modules(room)))
        count, known = sum(map(len, found)), IN_CIRCLES.get(room, 0)
        if count > known:
            wrong += [f"{room}: {count} files are in circles, {known} were:"]
            wrong += ["    " + ", ".join("::".join(module)
                                         for module in sorted(circle))
                      for circle in found]
        elif count < known:
            wrong.append(f"{room}: only {count} files are in circles; write that "
                         "into IN_CIRCLES")
    assert not wrong, "\n".join(wrong)


def test_the_circle_rule_is_seen():
    """A circle is seen through re-exports, paths in code and its mod.rs."""
    room, first, second, third = ("room",), *((("room", name) for name in
                                               ("first", "second", "third")))
    found = {
        room: code("mod first; mod second; pub(crate) use second::Second;"
                   " fn build() { first::build() }"),
        first: code("use crate::room::{Second as Other, third};"),
        second: code("fn f() { super::third::g() }"),
        third: code("use std::cell::Cell; // use super::first::First;"),
    }
    graph = imports(found)
    assert graph == {room: {first, second}, first: {second, third},
                     second: {third}, third: set()}
    assert circles(graph) == []
    found[third] = code("use super::first::First;")
    assert circles(imports(found)) == [{first, second, third}]
    found[third] = code("fn g() { super::build() }")
    assert circles(imports(found)) == [{room, first, second, third}]


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


def python_modules(text):
    """Modules of the package, other than the extension, that a text names in full."""
    return [found for found in re.findall(r"\baioxide\.(_\w+)\.\w+", text)
            if found != "_aioxide"]


def test_one_file_of_the_extension_names_python_modules():
    allowed = EXTENSION / "interop" / "python_side.rs"
    naming = [file for file in files("**/*.rs", CRATES)
              if python_modules(file.read_text())]
    assert naming == [allowed]
    for place in re.findall(r'c"(aioxide\.[\w.]+)"', allowed.read_text()):
        module = ROOT / "python" / place.replace(".", "/")
        assert module.with_suffix(".py").exists(), place


def test_the_package_has_its_modules_in_folders():
    package = ROOT / "python" / "aioxide"
    assert sorted(file.name for file in package.glob("*.py")) == [
        "__init__.py", "__main__.py"]


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


TYPE = re.compile(r"^(?:pub(?:\([^)]*\))?\s+)?(?:unsafe\s+)?"
                  r"(?:struct|enum|union|trait|type)\s+(\w+)", re.MULTILINE)

# Names of types that two places of the three crates may define, each with the
# reason: what makes it clear to a reader which one is meant.
MAY_BE_DEFINED_TWICE = {
    # Domains are compiled in one of two ways.
    "Outside": "with and without the GIL",
    "Owned": "with and without the GIL",
    "Section": "with and without the GIL",
}


def types(text):
    """The types that a Rust file defines outside of functions and tests: (name, line)."""
    for found in TYPE.finditer(text):
        yield found[1], line_of(text, found.start(1))


def line_of(text, place):
    return text.count("\n", 0, place) + 1


def test_a_type_has_a_name_of_its_own():
    places = {}
    for file in files("*/src/**/*.rs", CRATES):
        for type_name, line in types(file.read_text()):
            places.setdefault(type_name, []).append(f"{name(file)}:{line}")
    twice = {type_name: found for type_name, found in places.items()
             if len(found) > 1}
    wrong = [f"{type_name} is defined in {', '.join(found)}"
             for type_name, found in sorted(twice.items())
             if type_name not in MAY_BE_DEFINED_TWICE]
    wrong += [f"{type_name} is not defined twice: take it out of "
              "MAY_BE_DEFINED_TWICE"
              for type_name in MAY_BE_DEFINED_TWICE if type_name not in twice]
    assert not wrong, "\n".join(wrong)


SENTENCES = ("**/*.rs", "**/*.py", "**/*.pyi", "**/*.sh", "**/*.md")
WITH_SENTENCES = ("crates", "python", "scripts", "benches", "tests", "docs",
                  "examples", "fuzz")

# Not in quotation marks, as where the rule itself is written down.
UNNAMED_NUMBER = re.compile(r"""(?<!["'`])\bso(?:\s|//[/!]?|\#)+many\b""", re.IGNORECASE)


def files_with_sentences():
    yield from sorted(ROOT.glob("*.md"))
    for pattern in SENTENCES:
        yield from files(pattern, *WITH_SENTENCES)


def unnamed_numbers(text):
    """The lines with the words that stand for a number without naming it."""
    return [line_of(text, found.start())
            for found in UNNAMED_NUMBER.finditer(text)]


def test_sentences_name_the_number():
    wrong = [f"{name(file)}:{line} has the words 'so many' in place of a number"
             for file in files_with_sentences()
             for line in unnamed_numbers(file.read_text())]
    assert not wrong, "\n".join(wrong)


def rust_docs(text):
    """The doc comments of a Rust file: (line of the first line, text)."""
    lines = [(number, re.match(r"\s*(//[/!])(?!/) ?(.*)", line))
             for number, line in enumerate(text.splitlines(), 1)]
    for kind, group in itertools.groupby(lines, lambda line: line[1] and line[1][1]):
        if kind:
            group = list(group)
            yield group[0][0], "\n".join(found[2] for _, found in group)


def python_docs(text):
    """The docstrings of a Python file: (line of the first line, text)."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef,
                             ast.AsyncFunctionDef)):
            if (doc := ast.get_docstring(node)) is not None:
                yield node.body[0].lineno, doc


def split_docs(docs):
    """The lines of doc comments that begin or end in the middle of a sentence."""
    for line, text in docs:
        text = text.strip()
        if text.startswith("…") or text.endswith("…"):
            yield line


def test_doc_comments_are_whole_sentences():
    wrong = []
    for pattern, docs in (("**/*.rs", rust_docs), ("**/*.py", python_docs),
                          ("**/*.pyi", python_docs)):
        for file in files(pattern, *WITH_SENTENCES):
            wrong += [f"{name(file)}:{line}: a doc comment begins or ends with '…'"
                      for line in split_docs(docs(file.read_text()))]
    assert not wrong, "\n".join(wrong)


def test_the_rules_of_words_are_seen():
    """Each of the three rules sees what it is there for, with its line."""
    rust = """\
/// Waits for …
const A: u8 = 1;
/// … NUMBER bytes.
pub(crate) struct B;
//// no doc comment …
fn f() {
    struct C;
}
/// At most "so many" words … in one line.
pub unsafe trait D {}
""".replace("NUMBER", "so\n/// many")
    assert list(types(rust)) == [("B", 5), ("D", 11)]
    assert unnamed_numbers(rust) == [3]
    assert list(split_docs(rust_docs(rust))) == [1, 3]
    python = '# so\n#   many\nclass A:\n    """As B …"""\n'
    assert unnamed_numbers(python) == [1]
    assert list(split_docs(python_docs(python))) == [4]


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


def test_every_decision_stands_in_the_list():
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"^- \[(.+)\]\((\d{4}-[\w-]+\.md)\)$",
                        (folder / "README.md").read_text(), re.MULTILINE)
    pages = [(file.read_text().partition("\n")[0].removeprefix("# "), file.name)
             for file in sorted(folder.glob("[0-9]*.md"))]
    assert listed == pages
