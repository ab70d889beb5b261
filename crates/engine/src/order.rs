//! The order of many items by a number each.
//!
//! Moving items about costs more than sorting them. So this sorts 8-byte words, each a number and
//! the item's place, and the caller takes the items once, in order. Many words are sorted digit by
//! digit, which costs a third of comparing them, since a comparison has a branch that the processor
//! cannot predict.

/// For at most this many words, comparing costs less than counting digits.
const COMPARED: usize = 512;

/// The maximum number of bits of a digit: the 2048 counters of 11 bits stay in the first cache.
const DIGIT_BITS: u32 = 11;

/// The places of the numbers in ascending order; of equal ones the first comes first.
pub(crate) fn ascending(numbers: impl ExactSizeIterator<Item = u64> + Clone) -> Vec<u32> {
    let count = numbers.len();
    debug_assert!(u32::try_from(count).is_ok());
    let least = numbers.clone().min().unwrap_or(0);
    let most = numbers.clone().max().unwrap_or(0);
    let number_bits = u64::BITS - (most - least).leading_zeros();
    let place_bits = usize::BITS - count.leading_zeros();
    if number_bits + place_bits > u64::BITS {
        let numbers: Vec<u64> = numbers.collect();
        let mut places: Vec<u32> = (0..count as u32).collect();
        places.sort_by_key(|place| numbers[*place as usize]);
        return places;
    }
    let mut words: Vec<u64> = numbers
        .enumerate()
        .map(|(place, number)| (number - least) << place_bits | place as u64)
        .collect();
    if count <= COMPARED {
        words.sort_unstable();
    } else {
        words = by_digits(words, place_bits, number_bits);
    }
    let mask = (1 << place_bits) - 1;
    words.into_iter().map(|word| (word & mask) as u32).collect()
}

/// Sorts words by `bits` bits from `shift` on, keeping the order of those that agree in them.
fn by_digits(mut words: Vec<u64>, shift: u32, bits: u32) -> Vec<u64> {
    let digits = bits.div_ceil(DIGIT_BITS);
    if digits == 0 {
        return words;
    }
    let digit_bits = bits.div_ceil(digits);
    let mut sorted = vec![0; words.len()];
    let mut places = vec![0_u32; 1 << digit_bits];
    for digit in 0..digits {
        let digit_of =
            |word: u64| (word >> (shift + digit * digit_bits)) as usize & ((1 << digit_bits) - 1);
        places.fill(0);
        for word in &words {
            places[digit_of(*word)] += 1;
        }
        let mut next = 0;
        for place in &mut places {
            next += std::mem::replace(place, next);
        }
        for word in &words {
            let place = &mut places[digit_of(*word)];
            sorted[*place as usize] = *word;
            *place += 1;
        }
        std::mem::swap(&mut words, &mut sorted);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{config, up_to};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(config(60))]

        /// The order is that of a stable sort, for few and many numbers, of small ranges and of the
        /// whole.
        #[test]
        fn agrees_with_a_stable_sort(
            numbers in prop::collection::vec(any::<u64>(), 0..up_to(3 * COMPARED)),
            shift in 0u32..64,
        ) {
            let numbers: Vec<u64> = numbers.iter().map(|number| number >> shift).collect();
            let mut expected: Vec<u32> = (0..numbers.len() as u32).collect();
            expected.sort_by_key(|place| numbers[*place as usize]);
            prop_assert_eq!(ascending(numbers.iter().copied()), expected);
        }
    }
}
