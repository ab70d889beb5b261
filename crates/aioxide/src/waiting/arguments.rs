//! Finding equal arguments of `gather()`, which share one child.

use cpython::{Obj, Python, Raised};

/// The arguments that `gather()` has gone through.
pub(super) struct Arguments {
    addresses: ArgumentAddresses,
    /// Whether each argument so far is a coroutine to which a task refers.
    all_referred_to: bool,
    /// A dict of the arguments' futures; None if each argument equals only itself.
    known: Option<Obj>,
}

/// A hash table of addresses, with open addressing. It takes no memory until it is needed.
#[derive(Default)]
struct ArgumentAddresses {
    places: Vec<(usize, usize)>,
}

impl ArgumentAddresses {
    /// The addresses of the arguments before an index.
    #[cold]
    fn of(args: &[Obj], index: usize) -> ArgumentAddresses {
        let size = (args.len() * 2).next_power_of_two();
        let mut addresses = ArgumentAddresses {
            places: vec![(0, 0); size],
        };
        for (index, argument) in args[..index].iter().enumerate() {
            addresses.insert(argument.as_ptr() as usize, index);
        }
        addresses
    }

    /// Keeps the index under the address. If the address has an index already, returns that
    /// instead.
    #[inline]
    fn insert(&mut self, address: usize, index: usize) -> Option<usize> {
        let mask = self.places.len() - 1;
        // Addresses are multiples of 16, and neighbours differ in the next bits.
        let mut place = (address >> 4) & mask;
        loop {
            match &mut self.places[place] {
                (found, known) if *found == address => return Some(*known),
                free @ (0, _) => {
                    *free = (address, index);
                    return None;
                }
                _ => place = (place + 1) & mask,
            }
        }
    }
}

impl Arguments {
    /// The state before the first argument.
    pub(super) fn of(py: Python<'_>, args: &[Obj]) -> Result<Arguments, Raised> {
        let by_identity = args
            .iter()
            .all(|argument| argument.is_coroutine_exact() || argument.equals_by_identity());
        Ok(Arguments {
            addresses: ArgumentAddresses::default(),
            all_referred_to: true,
            known: if by_identity {
                None
            } else {
                Some(Obj::dict(py)?)
            },
        })
    }

    /// The child of an equal argument before this one.
    #[inline]
    pub(super) fn known(
        &mut self,
        args: &[Obj],
        index: usize,
        children: &[Obj],
    ) -> Result<Option<Obj>, Raised> {
        let argument = &args[index];
        match &self.known {
            None => {
                if self.addresses.places.is_empty() {
                    // If it equalled one before, it would have a second reference, from that one's
                    // task.
                    if self.all_referred_to && argument.refcount() == 1 || index == 0 {
                        return Ok(None);
                    }
                    self.addresses = ArgumentAddresses::of(args, index);
                }
                let earlier = self.addresses.insert(argument.as_ptr() as usize, index);
                Ok(earlier.map(|earlier| children[earlier].clone()))
            }
            Some(known) => known.dict_get(argument),
        }
    }

    /// Notes an argument that is no coroutine to which a task refers.
    #[inline]
    pub(super) fn meet_other(&mut self) {
        self.all_referred_to = false;
    }

    /// Keeps the child of an argument.
    #[inline]
    pub(super) fn learn(&self, argument: &Obj, child: &Obj) -> Result<(), Raised> {
        match &self.known {
            None => Ok(()),
            Some(known) => known.dict_set(argument, child),
        }
    }
}
