//! Calls from Python: binding of arguments, and panics that become exceptions.

use crate::{python, run};

#[test]
fn arguments_are_bound_by_place_and_name() {
    python(|py| {
        run(
            py,
            "
node = Node()
assert node.bind(1) == (1, 'absent', 'absent')
assert node.bind(1, 2) == (1, 2, 'absent')
assert node.bind(1, third=3) == (1, 'absent', 3)
assert node.bind(third=3, second=2, first=1) == (1, 2, 3)
assert node.bind(*[1], **{'second': 2}) == (1, 2, 'absent')
assert node.bind_in_part(1, third=3) == (1, 'absent', 3)
assert node.one(1) == 1 and node.one(only=1) == 1
assert node.only_keyword(1, 2, name=3) == 3 and node.only_keyword(1) is None
made = Node(value=1, next=2)
assert (made.next, made.value) == (2, 1)
assert (Node(**{'ne' + 'xt': 3}).next) == 3
",
        )
    });
}

#[test]
fn what_does_not_fit_is_refused_as_by_a_builtin() {
    python(|py| {
        run(
            py,
            "
node = Node()
def refused(call, text):
    try:
        call()
    except TypeError as error:
        assert str(error) == text, error
    else:
        assert False, text
refused(lambda: node.bind(), \"bind() missing required argument 'first' (pos 1)\")
refused(lambda: node.bind(second=1), \"bind() missing required argument 'first' (pos 1)\")
refused(lambda: node.bind(1, 2, 3), 'bind() takes at most 2 positional arguments (3 given)')
refused(lambda: node.bind(1, 2, 3, 4), 'bind() takes at most 3 arguments (4 given)')
refused(lambda: node.bind(1, second=2, third=3, fourth=4),
        'bind() takes at most 3 arguments (4 given)')
refused(lambda: node.bind(1, fourth=4), \"bind() got an unexpected keyword argument 'fourth'\")
refused(lambda: node.bind(1, first=1),
        \"argument for bind() given by name ('first') and position (1)\")
refused(lambda: Node(1, 2, 3), 'Node() takes at most 2 arguments (3 given)')
refused(lambda: Node(nothing=1), \"Node() got an unexpected keyword argument 'nothing'\")
refused(lambda: node.me(1), 'Node.me() takes no arguments (1 given)')
refused(lambda: node.echo(), 'Node.echo() takes exactly one argument (0 given)')
refused(lambda: node.only_keyword(other=1), \"f() got an unexpected keyword argument 'other'\")
refused(lambda: node.bind(**{1: 2}), 'keywords must be strings')
",
        )
    });
}

#[test]
fn what_does_not_fit_is_refused_as_by_a_function_of_python() {
    python(|py| {
        run(
            py,
            "
import itertools
class F:
    def f(self, first, second='absent', third='absent'):
        return first, second, third
    f.__qualname__ = 'f'
    def one(self, only):
        return only
    one.__qualname__ = 'f'
def in_part(first, second='absent', *, third='absent'):
    return first, second, third
in_part.__qualname__ = 'f'

def outcome(function, args, named):
    try:
        return function(*args, **named)
    except TypeError as error:
        return str(error)
node, python = Node(), F()
names = ['first', 'third', 'only', 'other', 'nothing']
tried = 0
for count in range(6):
    for some in range(4):
        for chosen in itertools.permutations(names, some):
            args, named = range(count), dict.fromkeys(chosen, 'named')
            for ours, theirs in ((node.bind_as_python, python.f), (node.one, python.one),
                                 (node.bind_in_part, in_part)):
                got, wanted = outcome(ours, args, named), outcome(theirs, args, named)
                assert got == wanted, (args, named, got, wanted)
                tried += 1
assert tried > 1000, tried
",
        )
    });
}

#[test]
fn arguments_are_handed_on() {
    python(|py| {
        run(
            py,
            "
node = Node()
node.value = lambda *args, **named: (args, named)
assert node.hand_on() == ((), {})
assert node.hand_on(1, 2) == ((1, 2), {})
assert node.hand_on(1, a=2, b=3) == ((1,), {'a': 2, 'b': 3})
# None of them is held longer than the call.
class Value: pass
value = Value()
reference = weakref.ref(value)
node.hand_on(value, named=value)
del value
assert reference() is None
",
        )
    });
}

#[test]
fn a_panic_becomes_an_exception() {
    python(|py| {
        run(
            py,
            "
node = Node(None, [])
before = sys.getrefcount(node.value)
def panics(call, text):
    try:
        call()
    except RuntimeError as error:
        assert str(error) == text, error
    else:
        assert False, text
for _ in range(3):
    panics(node.panics, 'aioxide panicked: on purpose')
    panics(node.panics_in_words, 'aioxide panicked: on purpose: false')
    panics(lambda: node.broken, 'aioxide panicked: on purpose, while read')
    panics(lambda: setattr(node, 'broken_when_set', 1),
           'aioxide panicked: on purpose, while set')
    panics(lambda: next(Steps(['panic'])), 'aioxide panicked: on purpose, in a step')
assert sys.getrefcount(node.value) == before
assert node.me() is node, 'all goes on'
class Sub(Node):
    def caught(self):
        try:
            return self.panics()
        except RuntimeError:
            return 'caught'
assert Sub().caught() == 'caught'
",
        )
    });
}

#[test]
fn properties_are_set_and_deleted() {
    python(|py| {
        run(
            py,
            "
node = Node()
assert node.value is None and node.flag is False
node.value, node.flag = 1, 'yes'
assert node.value == 1 and node.flag is True
del node.value, node.flag
assert node.value is None and node.flag is False
node.value = None
class Unsure:
    def __bool__(self):
        raise KeyError('unsure')
try:
    node.flag = Unsure()
except KeyError:
    assert node.flag is False
else:
    assert False
try:
    Node.broken.__set__(node, 1)
except AttributeError:
    pass
else:
    assert False
",
        )
    });
}
