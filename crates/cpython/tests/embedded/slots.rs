//! [`Slot`] and [`Tagged`]: references that may be replaced at any time.

use cpython::tagged::Tagged;
use cpython::tagged_slot::TaggedSlot;
use cpython::{Obj, Slot};

use crate::toys::Node;
use crate::{Names, python};

#[test]
fn a_slot_counts_its_reference() {
    python(|py| {
        let list = Obj::list(py)?;
        let slot = Slot::new(Some(list.clone()));
        assert_eq!(list.refcount(), 2);
        assert!(slot.is_some() && slot.holds(&list));
        drop(slot.get());
        assert_eq!(list.refcount(), 2);
        let old = slot.replace(Some(Obj::dict(py)?)).expect("the list");
        assert!(old.is(&list) && !slot.holds(&list));
        drop(old);
        assert_eq!(list.refcount(), 1);
        slot.set(Some(list.clone()));
        let other = Slot::new(Some(list.clone()));
        assert!(slot.holds_same(&other));
        assert_eq!(slot.class_address(), list.class_address());
        drop(slot.take());
        assert!(slot.is_none() && !slot.holds_same(&other));
        assert_eq!(slot.class_address(), 0);
        drop(other);
        assert_eq!(list.refcount(), 1);
        Ok(())
    });
}

#[test]
fn who_is_released_finds_the_new_value_and_may_replace_it() {
    python(|py| {
        let names = Names::new(py)?;
        let node = Node::make(py)?;
        names.set("node", node.as_obj())?;
        names.run(
            "
class Again:
    def __init__(self, times):
        self.times = times
    def __del__(self):
        found.append(node.value)
        node.value = Again(self.times - 1) if self.times else None
found = []
node.value = Again(50)
",
        )?;
        // Each object that is released puts another there, which the loop releases, until none is
        // left.
        let mut rounds = 0;
        while node.value.is_some() {
            node.value.set(None);
            rounds += 1;
        }
        assert_eq!(rounds, 51);
        names.run("assert found == [None] * 51")?;
        // The same for an object that is taken out, and for a field that is read meanwhile.
        names.run("node.value = Again(0)")?;
        let held = node.value.get();
        node.value.set(None);
        names.run("assert len(found) == 51, 'it is still held'")?;
        drop(held);
        names.run("assert len(found) == 52 and node.value is None")
    });
}

#[test]
fn a_tag_travels_with_its_reference() {
    python(|py| {
        let list = Obj::list(py)?;
        for tag in 0..8 {
            let tagged = Tagged::new(list.clone(), tag);
            assert_eq!(tagged.tag(), tag);
            assert!(tagged.with(|object| object.is(&list)));
            assert_eq!(list.refcount(), 2);
            if tag % 2 == 0 {
                assert!(tagged.into_obj().is(&list));
            } else {
                drop(tagged);
            }
            assert_eq!(list.refcount(), 1);
        }
        let optional = size_of::<Option<Tagged>>();
        assert_eq!(optional, size_of::<usize>());
        Ok(())
    });
}

#[test]
fn a_tagged_slot_holds_a_reference_or_a_box() {
    python(|py| {
        let (list, other) = (Obj::list(py)?, Obj::list(py)?);
        let slot = TaggedSlot::<(Option<Tagged>, u64)>::default();
        assert!(slot.is_empty() && slot.take().is_none() && slot.boxed().is_none());
        for tag in 0..7 {
            assert!(slot.put(Tagged::new(list.clone(), tag)).is_ok());
            assert_eq!(slot.tag(), Some(tag));
            assert!(slot.holds(&list) && !slot.holds(&other));
            assert_eq!(slot.class_address(), list.class_address());
            assert!(slot.take_tagged((tag + 1) % 7).is_none());
            assert!(slot.get().is_some_and(|held| held.is(&list)));
            assert!(slot.take_tagged(tag).is_some_and(|held| held.is(&list)));
            assert!(slot.is_empty());
            assert_eq!(list.refcount(), 1);
        }
        assert!(
            slot.put(Tagged::new(list.clone(), 7)).is_err(),
            "the tag of boxes"
        );
        assert!(slot.put(Tagged::new(list.clone(), 1)).is_ok());
        assert!(slot.put(Tagged::new(other.clone(), 2)).is_ok(), "another");
        assert_eq!((list.refcount(), other.refcount()), (1, 2));
        let (held, number) = slot.boxed_or_make(|held| (held, 5));
        assert!(held.as_ref().is_some_and(|held| held.tag() == 2) && *number == 5);
        assert_eq!(slot.boxed_or_make(|_| (None, 6)).1, 5, "it is made once");
        assert!(slot.take().is_none() && slot.tag().is_none() && slot.get().is_none());
        assert!(slot.take_tagged(2).is_none() && !slot.is_empty() && !slot.holds(&other));
        assert!(
            slot.put(Tagged::new(list.clone(), 0)).is_err(),
            "there is a box"
        );
        assert_eq!(slot.class_address(), 0);
        drop(slot);
        assert_eq!((list.refcount(), other.refcount()), (1, 1));
        let slot = TaggedSlot::<u64>::default();
        assert!(slot.put(Tagged::new(list.clone(), 3)).is_ok());
        drop(slot);
        assert_eq!(list.refcount(), 1);
        Ok(())
    });
}
