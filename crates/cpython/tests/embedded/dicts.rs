//! Dicts whose changes are noticed.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use cpython::watch::{SeenVersion, WatchedDict, on_change};
use cpython::{Obj, Raised};

use crate::{Names, python};

#[test]
fn a_change_is_seen_whatever_makes_it() {
    static SEEN: SeenVersion = SeenVersion::new();
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
class Class: a = 1
import types
module = types.ModuleType('module')
module.a = 1
names = vars(module)
",
        )?;
        let dict = names.get("names")?;
        let watched = WatchedDict::new(dict.clone());
        assert!(!SEEN.is_current(py), "it was never looked at");
        let see = || watched.look(py, &SEEN, |looked| Ok((!looked.is(&dict)).then_some(())));
        for change in [
            "module.a = 2",
            "module.b = 1",
            "del module.b",
            "names.update(c=1)",
            "names['a'] = 3",
            "names.setdefault('d', 1)",
            "names.pop('d')",
            "names.popitem()",
            "names |= {'e': 1}",
            "names.clear()",
            "vars(module)['a'] = 1",
            "setattr(module, 'f', 1)",
            "for n in range(1000): names[f'a{n}'] = n",
        ] {
            assert_eq!(see()?, None);
            assert!(SEEN.is_current(py));
            names.run("getattr(module, 'a', None)\nnames.get('a')\nlist(names)")?;
            assert!(SEEN.is_current(py), "reading changes nothing");
            names.run(change)?;
            assert!(!SEEN.is_current(py), "{change}");
        }
        // Something unexpected is not remembered, nor is a failing look.
        assert_eq!(watched.look(py, &SEEN, |_| Ok(Some(5)))?, Some(5));
        assert!(!SEEN.is_current(py));
        let failing = watched.look::<()>(py, &SEEN, |_| Err(Raised::value_error(py, "no")));
        assert!(failing.err().map(|raised| raised.take(py)).is_some());
        assert!(!SEEN.is_current(py));
        // A change during the look is noticed.
        let changed = watched.look::<()>(py, &SEEN, |_| names.run("module.a = 4").map(|()| None));
        assert!(changed?.is_none() && !SEEN.is_current(py));
        Ok(())
    });
}

#[test]
fn a_listener_is_told_of_its_name() {
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    static VALUE: AtomicI64 = AtomicI64::new(0);
    fn listen(value: Option<&Obj>) {
        TOLD.fetch_add(1, Ordering::Relaxed);
        let value = value.and_then(Obj::small_int);
        VALUE.store(value.unwrap_or(-1), Ordering::Relaxed);
        assert!(value != Some(13), "on purpose, while told");
    }
    python(|py| {
        let names = Names::new(py)?;
        names.run("heard, other = {'name': 1}, {}")?;
        let is_watched = on_change(&names.get("heard")?, c"name", listen);
        assert_eq!(
            is_watched,
            cfg!(Py_3_12),
            "the first with watchers of dicts"
        );
        if !is_watched {
            return Ok(());
        }
        let seen = || (TOLD.load(Ordering::Relaxed), VALUE.load(Ordering::Relaxed));
        names.run("heard['name'] = 2")?;
        assert_eq!(seen(), (1, 2));
        names.run("heard['another'] = 3\nother['name'] = 4\nheard[5] = 6")?;
        assert_eq!(seen(), (1, 2));
        names.run("del heard['name']")?;
        assert_eq!(seen(), (2, -1));
        names.run("heard.update(name=7)")?;
        assert_eq!(seen(), (3, 7));
        names.run("heard.clear()")?;
        assert_eq!(seen(), (4, -1));
        // A panic of a listener is reported, and the dict changes all the same. An exception that
        // is set stays set.
        names.run(
            "
with Reports() as reports:
    heard['name'] = 13
assert reports == [(RuntimeError, 'aioxide panicked: on purpose, while told', None)], reports
assert heard == {'name': 13}
heard['name'] = 1
reports.__enter__()
",
        )?;
        let raised = Raised::value_error(py, "outside");
        names
            .get("heard")?
            .dict_set(&Obj::str(py, "name")?, &Obj::int(py, 13)?)?;
        assert_eq!(
            raised.take(py).repr()?.to_string()?,
            "ValueError('outside')"
        );
        names.run("reports.__exit__()\nassert len(reports) == 2 and heard == {'name': 13}")?;
        assert!(
            !on_change(&names.get("other")?, c"name", listen),
            "there is one"
        );
        Ok(())
    });
}
