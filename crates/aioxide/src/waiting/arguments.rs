//! Which of the arguments of `gather()` are equal.

use cpython::{Obj, Python, Raised};

/// What `gather()` knows while it goes through its arguments.
pub(super) struct Arguments {
    addresses: Addresses,
    /// Whether each argument so far is a coroutine to which a task refers.
    all_referred_to: bool,
    /// The future of each, by equality; none if all are equal to themselves alone.
    known: Option<Obj>,
}

/// A set of addresses, with open addressing; without memory until it is needed.
#[derive(Default)]
struct Addresses {
    places: Vec<(usize, usize)>,
}

impl Addresses {
    /// The arguments up to an index.
    #[cold]
    fn of(args: &[Obj], index: usize) -> Addresses {
        let size = (args.len() * 2).next_power_of_two();
        let mut addresses = Addresses {
            places: vec![(0, 0); size],
        };
        for (index, argument) in args[..index].iter().enumerate() {
            addresses.insert(argument.as_ptr() as usize, index);
        }
        addresses
    }

    /// Remembers an index by an address, unless there is one already, which it returns.
    #[inline]
    fn insert(&mut self, address: usize, index: usize) -> Option<usize> {
        let mask = self.places.len() - 1;
        // Addresses are multiples of 16; neighbours differ in the next bits.
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
    /// Before the first of them.
    pub(super) fn of(py: Python<'_>, args: &[Obj]) -> Result<Arguments, Raised> {
        let by_identity = args
            .iter()
            .all(|argument| argument.is_coroutine_exact() || argument.equals_by_identity());
        Ok(Arguments {
            addresses: Addresses::default(),
            all_referred_to: true,
            known: if by_identity {
                None
            } else {
                Some(Obj::dict(py)?)
            },
        })
    }

    /// The child that stands for an equal argument before it.
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
                    // Were it among those before, its task would refer to it besides who calls.
                    if self.all_referred_to && argument.refcount() == 1 || index == 0 {
                        return Ok(None);
                    }
                    self.addresses = Addresses::of(args, index);
                }
                let earlier = self.addresses.insert(argument.as_ptr() as usize, index);
                Ok(earlier.map(|earlier| children[earlier].clone()))
            }
            Some(known) => known.dict_get(argument),
        }
    }

    /// An argument is something else than a coroutine to which a task refers.
    #[inline]
    pub(super) fn meet_other(&mut self) {
        self.all_referred_to = false;
    }

    /// The child of an argument.
    #[inline]
    pub(super) fn learn(&self, argument: &Obj, child: &Obj) -> Result<(), Raised> {
        match &self.known {
            None => Ok(()),
            Some(known) => known.dict_set(argument, child),
        }
    }
}
