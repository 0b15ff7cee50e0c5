//! Packed samples: sample `s` owns rows `offsets[s]..offsets[s + 1]`.

/// Panics where offsets do not run from 0 to `rows` without going back.
pub(crate) fn check_offsets(name: &str, offsets: &[usize], rows: usize) {
    assert!(
        offsets.first() == Some(&0) && offsets.last() == Some(&rows) && offsets.is_sorted(),
        "{name}: the offsets do not run from 0 to {rows}"
    );
}
