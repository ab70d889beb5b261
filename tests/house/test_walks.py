"""ARCHITECTURE.md's walks lead where they say: each file is there and defines the functions
named, and each line goes on from the one above it."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXTENSION = ROOT / "crates" / "aioxide" / "src"

# Topics that a reader looks for, and where their walk has to pass.
WANTED = {
    "A call.": "handles/handle.rs",
    "A timer.": "handles/handle.rs",
    "A byte.": "streams/content.rs",
    "A task.": "tasks/step.rs",
    "A call on another thread.": "executor/outcomes.rs",
    "A lock.": "sync/lock.rs",
    "A signal.": "event_loop/watch.rs",
    "A child.": "subprocess/exit.rs",
}


def walks(text):
    """Each walk: the words that its topic begins with, and its lines."""
    topic = None
    for found in re.finditer(r"(?ms)^\*\*([^*]+)\*\*|^```walk\n(.*?)^```", text):
        if found[1]:
            topic = found[1]
        else:
            yield topic, found[2].splitlines()


def documented():
    return list(walks((ROOT / "ARCHITECTURE.md").read_text()))


def code(text):
    """Rust source without its comments."""
    return re.sub(r"(?m)//.*$", "", text)


def source(path):
    """The code of a file of the extension, without comments; nothing if it is not there."""
    file = EXTENSION / path
    return code(file.read_text()) if file.is_file() else None


def defines(text, function):
    return re.search(rf"\bfn {function}\b", text)


def mentions(text, function):
    return re.search(rf"(?<!\bfn )\b{function}\b", text)


def faults(lines, source=source):
    """What is wrong with a walk's lines."""
    above = None
    for line in lines:
        if line.startswith("("):
            above = None
            continue
        path, _, names = line.partition(" ")
        functions = [name.strip() for name in names.split(",")]
        text = source(path)
        if text is None:
            yield f"there is no {path}"
            above = None
            continue
        for function in functions:
            if not defines(text, function):
                yield f"{path} does not define {function}"
        if above is not None and not mentions(above, functions[0]):
            yield f"nothing above calls {functions[0]} of {path}"
        for function in functions[1:]:
            if not mentions(text, function):
                yield f"nothing in {path} calls {function}"
        above = text


def test_the_topics_have_their_walks():
    ways = {}
    for topic, lines in documented():
        ways.setdefault(topic, []).extend(line.split()[0] for line in lines)
    missing = {topic: path for topic, path in WANTED.items()
               if path not in ways.get(topic, ())}
    assert not missing


@pytest.mark.parametrize(
    "topic, lines",
    [pytest.param(topic, lines, id=f"{topic} {lines[0].split()[0]}")
     for topic, lines in documented()])
def test_a_walk_leads_where_it_says(topic, lines):
    assert not list(faults(lines))


def test_a_wrong_walk_is_seen():
    texts = {"a.rs": "fn one() { two() } fn two() { far::three() }",
             "b.rs": "fn three() {} fn lonely() {}"}
    assert not list(faults(["a.rs  one, two", "b.rs  three"], texts.get))
    assert list(faults(["b.rs  four"], texts.get)) == ["b.rs does not define four"]
    assert list(faults(["c.rs  one"], texts.get)) == ["there is no c.rs"]
    assert list(faults(["a.rs  two", "b.rs  lonely"], texts.get)) == [
        "nothing above calls lonely of b.rs"]
    assert list(faults(["b.rs  three, lonely"], texts.get)) == [
        "nothing in b.rs calls lonely"]
    assert not list(faults(["a.rs  two", "(then)", "b.rs  lonely"], texts.get))


def test_walks_are_read():
    text = "**A call.** It runs.\n\n```walk\na.rs  one\n(then)\n```\n\n```\nb.rs\n```\n"
    assert list(walks(text)) == [("A call.", ["a.rs  one", "(then)"])]


# Types that the table of `handles/served.rs` must know.

TRAITS = {"Served": "serve", "Watcher": "serve_watcher", "TakesBytes": "serve_taker"}


def serving(texts):
    """Types that implement one of the traits, and those that are registered for it."""
    implemented, registered = set(), set()
    for text in texts:
        for trait, function in TRAITS.items():
            implemented |= {(trait, name) for name in
                            re.findall(rf"\bimpl {trait} for (\w+)", text)}
            registered |= {(trait, path.rpartition("::")[2]) for path in
                           re.findall(rf"\.{function}::<([\w:]+)>", text)}
    return implemented, registered


def test_each_type_that_serves_is_registered():
    rooms = {}
    for file in sorted(EXTENSION.rglob("*.rs")):
        room = pathlib.PurePath(file.relative_to(EXTENSION)).parts[0]
        rooms.setdefault(room, []).append(code(file.read_text()))
    found = set()
    for room, texts in rooms.items():
        implemented, registered = serving(texts)
        assert implemented == registered, room
        found |= {trait for trait, _ in implemented}
    assert found == set(TRAITS)


def test_a_type_that_is_not_registered_is_seen():
    implemented, registered = serving([
        "impl Served for Ours {} impl Watcher for Other {}",
        "registry.serve::<Ours>(); registry.serve_taker::<deep::Third>();"])
    assert implemented - registered == {("Watcher", "Other")}
    assert registered - implemented == {("TakesBytes", "Third")}
