//! Objects and memory that are used again or lent, and fields of a base's objects.

use std::mem::MaybeUninit;

use cpython::foreign::{Field, Number, section_words};
use cpython::numbers::Numbers;
use cpython::{BytesBuilder, Hot, Obj, Ref, Slot, Spare, SpareBytes, SpareQueue};

use crate::toys::{Based, Plain};
use crate::{Names, python};

fn address(object: &Obj) -> usize {
    object.as_ptr() as usize
}

#[test]
fn an_int_that_nobody_has_is_written_anew() {
    static NUMBERS: Numbers = Numbers::new();
    python(|py| {
        let number = NUMBERS.make(py, 123_456)?;
        let place = address(&number);
        assert!(NUMBERS.give_back(number).is_none());
        let number = NUMBERS.make(py, 654_321)?;
        assert_eq!(address(&number), place, "it was used again");
        assert_eq!(number.to_i64()?, 654_321);
        assert_eq!(number.repr()?.to_string()?, "654321");
        // An object that something else refers to is not changed.
        let other = number.clone();
        assert!(NUMBERS.give_back(number).is_none());
        assert_eq!(NUMBERS.make(py, 1_000_000)?.to_i64()?, 1_000_000);
        assert_eq!(other.to_i64()?, 654_321);
        drop(other);
        // Small ints, which the whole program shares, large ones, and objects that are no int.
        for value in [
            0,
            1,
            5,
            256,
            257,
            1 << 29,
            (1 << 30) - 1,
            1 << 30,
            1 << 40,
            i64::MAX,
        ] {
            let number = NUMBERS.make(py, value)?;
            assert_eq!(number.to_i64()?, value);
            assert!(NUMBERS.give_back(number).is_none());
        }
        for value in [3, 1000, 1 << 30, i64::MAX] {
            let number = NUMBERS.make(py, value)?;
            assert_eq!(number.to_i64()?, value);
            assert_eq!(Obj::int(py, 5)?.to_i64()?, 5);
        }
        assert!(NUMBERS.give_back(Obj::list(py)?).is_some());
        let truth = Obj::bool(py, true);
        assert!(NUMBERS.give_back(truth).is_some());
        Ok(())
    });
}

#[test]
fn the_bytes_that_nobody_has_are_filled_anew() {
    static SPARE: SpareBytes = SpareBytes::new();
    python(|py| {
        let names = Names::new(py)?;
        let one = SPARE.bytes(py, b"first")?;
        names.set("one", &one)?;
        names.run("known = hash(one)\ndel one")?;
        let place = address(&one);
        SPARE.keep(one);
        let two = SPARE.bytes(py, b"other")?;
        assert_eq!(address(&two), place, "it was used again");
        names.set("two", &two)?;
        names.run("assert two == b'other' and hash(two) == hash(b'oth' + two[3:])")?;
        names.run("assert {b'other': 1}[two] == 1 and hash(two) != known")?;
        // An object that something else refers to stays as it is.
        SPARE.keep(two);
        let three = SPARE.bytes(py, b"third")?;
        assert_ne!(address(&three), place);
        names.run("assert two == b'other'")?;
        // Objects of another size, and bytes that exist only once.
        SPARE.keep(three);
        assert_eq!(
            SPARE.bytes(py, b"longer one")?.as_bytes(),
            Some(&b"longer one"[..])
        );
        SPARE.keep(SPARE.bytes(py, b"")?);
        SPARE.keep(SPARE.bytes(py, b"x")?);
        assert_eq!(SPARE.bytes(py, b"y")?.as_bytes(), Some(&b"y"[..]));
        names.run("assert bytes([120]) == b'x' and bytes() == b''")?;
        SPARE.keep(Obj::list(py)?);
        Ok(())
    });
}

#[test]
fn kept_objects_are_given_only_when_nobody_has_them() {
    static KEPT: SpareQueue<Plain> = SpareQueue::new();
    static LAST: Spare<Plain> = Spare::new();
    python(|py| {
        assert!(KEPT.take(py).is_none() && LAST.take(py).is_none());
        let one = Plain::make(py)?;
        let place = address(one.as_obj());
        KEPT.keep(&one);
        assert!(KEPT.take(py).is_none(), "somebody has it");
        drop(one);
        let one = KEPT.take(py).expect("nobody has it");
        assert_eq!(address(one.as_obj()), place);
        LAST.keep(&one);
        assert!(LAST.take(py).is_none(), "somebody has it");
        let two = Plain::make(py)?;
        LAST.keep(&two);
        assert_eq!(one.as_obj().refcount(), 1, "only the last is kept");
        drop(two);
        assert!(LAST.take(py).is_some() && LAST.take(py).is_none());
        // The freelist is full: the oldest object is freed.
        for _ in 0..Plain::FREELIST + 2 {
            let each = Plain::make(py)?;
            each.held.set(Some(one.as_obj().clone()));
            KEPT.keep(&each);
        }
        assert_eq!(one.as_obj().refcount(), 1 + Plain::FREELIST as isize);
        while let Some(kept) = KEPT.take(py) {
            drop(kept);
        }
        assert_eq!(one.as_obj().refcount(), 1);
        Ok(())
    });
}

#[test]
fn memory_is_lent_for_a_call_only() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "def read(lent):\n    kept.append(lent)\n    return bytes(memoryview(lent))\nkept = []",
        )?;
        let read = names.get("read")?;
        let text = String::from("lent memory");
        let copied = Obj::lend(py, text.as_bytes(), |lent| read.call1(lent))??;
        assert_eq!(copied.as_bytes(), Some(text.as_bytes()));
        drop(text);
        names.run(
            "
try:
    memoryview(kept[0])
except BufferError:
    pass
else:
    assert False, 'the memory is gone'
def write(lent):
    view = memoryview(lent)
    try:
        view[0] = 1
    except TypeError:
        return view.readonly
",
        )?;
        let write = names.get("write")?;
        let readonly = Obj::lend(py, b"constant", |lent| write.call1(lent))??;
        assert!(readonly.is_true_object());
        assert!(Obj::lend(py, b"", |lent| read.call1(lent))??.as_bytes() == Some(b""));
        Ok(())
    });
}

#[test]
fn bytes_are_filled_piece_by_piece() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("def fill(lent, n):\n    memoryview(lent)[:n] = b'x' * n\n    return n")?;
        let fill = names.get("fill")?;
        let mut builder = BytesBuilder::new(py, 4)?;
        builder.extend(py, b"abc")?;
        assert_eq!((builder.filled(), builder.spare()), (3, 1));
        for _ in 0..3 {
            let written = builder.fill(py, |lent, room| {
                let count = Obj::int(py, room as i64)?;
                fill.call(&[lent, &count])?
                    .to_i64()
                    .map(|count| Some(count as usize))
            })?;
            assert!(written.is_some_and(|count| count > 0));
        }
        builder.extend(py, &[b'-'; 100])?;
        assert_eq!(builder.fill(py, |_, _| Ok(None))?, None);
        let failed = builder.fill(py, |_, _| Err(cpython::Raised::value_error(py, "no more")));
        drop(failed.expect_err("a ValueError").take(py));
        let filled = builder.filled();
        let made = builder.finish(py)?;
        let data = made.as_bytes().expect("bytes");
        assert_eq!(data.len(), filled);
        assert!(
            data.starts_with(b"abcx") && data.ends_with(b"x".repeat(3).as_slice())
                || data.ends_with(b"-")
        );
        assert_eq!(
            BytesBuilder::new(py, 0)?.finish(py)?.as_bytes(),
            Some(&b""[..])
        );
        drop(BytesBuilder::new(py, 1 << 20)?);
        Ok(())
    });
}

#[test]
fn buffers_are_read_and_written_in_place() {
    python(|py| {
        let names = Names::new(py)?;
        names.run(
            "
import array
plain, changing, whole = b'plain', bytearray(b'changing'), memoryview(bytearray(b'whole'))
apart = memoryview(b'in pieces')[::2]
",
        )?;
        let read = |name: &str| names.get(name)?.with_buffer(|bytes| bytes.to_vec());
        assert_eq!(read("plain")?, b"plain");
        assert_eq!(read("changing")?, b"changing");
        assert_eq!(read("whole")?, b"whole");
        drop(
            read("apart")
                .expect_err("it does not lie in one piece")
                .take(py),
        );
        names
            .get("changing")?
            .with_buffer_mut(|bytes| bytes.make_ascii_uppercase())?;
        names.run("assert changing == b'CHANGING'\nchanging.append(1)")?;
        let refused = names.get("plain")?.with_buffer_mut(|_| ());
        drop(refused.expect_err("bytes never change").take(py));
        let refused = Obj::list(py)?.with_buffer(|_| ());
        drop(refused.expect_err("a list has no buffer").take(py));
        let filled = Obj::bytes_filled(py, 10, |room| {
            for (place, byte) in room.iter_mut().zip(b"some") {
                place.write(*byte);
            }
            let first: &mut [MaybeUninit<u8>] = &mut room[..4];
            // SAFETY: these four were just written.
            Ok::<&[u8], ()>(unsafe { std::slice::from_raw_parts(first.as_ptr().cast(), 4) })
        })?;
        assert_eq!(filled.expect("no error").as_bytes(), Some(&b"some"[..]));
        let failed = Obj::bytes_filled(py, 10, |_| Err::<&[u8], &str>("failed"))?;
        assert_eq!(failed.map(drop), Err("failed"));
        Ok(())
    });
}

#[test]
fn fields_of_a_base_are_found_and_filled() {
    python(|py| {
        let names = Names::new(py)?;
        names.run("base = Based.__base__()\nmark = object()\nbase.second = mark")?;
        let (sample, mark) = (names.get("base")?, names.get("mark")?);
        let field = Field::<Based>::find(&sample, &mark).expect("there is one");
        let based = Ref::new(py, Based::default())?;
        assert!(field.is_empty(&based));
        let list = Obj::list(py)?;
        field.begin(&based, list.clone());
        assert!(field.holds(&based, &list) && !field.holds(&based, &mark));
        assert!(field.get(&based).is_some_and(|held| held.is(&list)));
        names.set("based", based.as_obj())?;
        names.run("assert based.second == [] and not hasattr(based, 'first')")?;
        let slot = Slot::new(Some(mark.clone()));
        assert!(!field.empty_if_same(&based, &slot));
        field.set(&based, Some(mark.clone()));
        assert_eq!(list.refcount(), 1);
        assert!(field.empty_if_same(&based, &slot));
        names.run("assert not hasattr(based, 'second')")?;
        // No field is found that is missing, is in more than one place, or lies beyond the object.
        assert!(Field::<Based>::find(&sample, &list).is_none());
        names.run("base.first = mark")?;
        assert!(Field::<Based>::find(&sample, &mark).is_none());
        for offset in [0, 8, 17, 1 << 20, u64::MAX] {
            assert!(
                Field::<Based>::verified(&sample, offset, &mark).is_none(),
                "{offset}"
            );
            assert!(Number::<Based>::byte(&sample, offset.max(1 << 10), 0).is_none());
        }
        Ok(())
    });
}

#[test]
fn what_is_no_library_has_no_sections() {
    let folder = std::env::temp_dir();
    assert_eq!(section_words(&folder, "AsyncioDebug"), None);
    let file = folder.join(format!("aioxide-sections-{}", std::process::id()));
    let own = std::env::current_exe().expect("a path");
    let data = std::fs::read(own).expect("the test's own file");
    for length in [0, 3, 6, 63, 64, 1000] {
        std::fs::write(&file, &data[..length]).expect("written");
        assert_eq!(section_words(&file, "AsyncioDebug"), None);
    }
    std::fs::write(&file, &data).expect("written");
    assert_eq!(section_words(&file, "no such section"), None);
    assert!(section_words(&file, "init_array").is_some_and(|words| !words.is_empty()));
    std::fs::remove_file(&file).expect("removed");
}
