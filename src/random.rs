//! Random bytes in batches: a call needs a few for its ids, and asking the generator for each would cost more.

use std::cell::RefCell;

const BATCH: usize = 1024;

thread_local! {
    static POOL: RefCell<([u8; BATCH], usize)> = const { RefCell::new(([0; BATCH], BATCH)) };
}

/// `N` unpredictable bytes, for ids that are no secrets (request ids, trace ids); `N` is at most 1,024. Session-ids do
/// not come from here but straight from the operating system.
///
/// # Panics
/// If the operating system gives no randomness: nothing can be secure then.
#[must_use]
pub fn bytes<const N: usize>() -> [u8; N] {
    const { assert!(N <= BATCH) };
    POOL.with_borrow_mut(|(pool, used)| {
        if BATCH - *used < N {
            aws_lc_rs::rand::fill(pool).expect("the operating system gives random bytes");
            *used = 0;
        }
        let mut taken = [0; N];
        taken.copy_from_slice(&pool[*used..*used + N]);
        *used += N;
        taken
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bytes_are_given_twice() {
        let drawn: std::collections::HashSet<[u8; 16]> = (0..1000).map(|_| bytes()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}
