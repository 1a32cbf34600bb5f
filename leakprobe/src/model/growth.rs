//! Whether a number that was looked at again and again has grown, or only goes up and down.

/// More moments than these are taken together, so that what averages out does not count.
const MOMENTS: usize = 8;

/// By how much `trend` grew from its first to its last number; 0 if it shrank, or if the difference is no more than its ups and
/// downs.
#[must_use]
pub fn growth(trend: &[u64]) -> u64 {
    let (Some(&first), Some(&last)) = (trend.first(), trend.last()) else {
        return 0;
    };
    let net = last.saturating_sub(first);
    // Of tasks that come and go, so many more or fewer are there by chance.
    let chance = 2 * first.isqrt();
    let is_steady = trend.len() >= 4 && down(trend) == 0;
    if is_steady || (net > down(&means(trend)) && net > chance) { net } else { 0 }
}

/// By how much the numbers went down in all.
fn down(numbers: &[u64]) -> u64 {
    numbers.windows(2).map(|pair| pair[0].saturating_sub(pair[1])).fold(0, u64::saturating_add)
}

/// Not more than [`MOMENTS`] numbers, each the mean of neighbours.
fn means(trend: &[u64]) -> Vec<u64> {
    let each = trend.len().div_ceil(MOMENTS).max(1);
    let mean = |group: &[u64]| {
        let sum = group.iter().fold(0_u64, |sum, &number| sum.saturating_add(number));
        sum / group.len().max(1) as u64
    };
    trend.chunks(each).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_up_grows_and_what_goes_up_and_down_does_not() {
        assert_eq!(growth(&[0, 3, 37]), 37);
        assert_eq!(growth(&[5, 8, 9, 12, 15, 20, 24, 28, 34]), 29);
        assert_eq!(growth(&[4, 4, 4, 4, 5]), 1);
        assert_eq!(growth(&[0, 2, 1, 3, 5, 4, 6, 8, 7, 10]), 10);
        for level in [&[][..], &[7], &[7, 7], &[9, 3], &[106, 95, 99, 110, 102, 97, 104, 114], &[100, 112]] {
            assert_eq!(growth(level), 0, "{level:?}");
        }
    }

    #[test]
    fn a_long_watch_over_ups_and_downs_finds_what_grows_beneath_them() {
        let noisy = |n: u64, slope: u64| 100 + n * slope / 10 + n * 7919 % 15;
        let grown: Vec<u64> = (0..240).map(|n| noisy(n, 10)).collect();
        assert!(growth(&grown) > 200);
        let level: Vec<u64> = (0..240).map(|n| noisy(n, 0)).collect();
        assert_eq!(growth(&level), 0);
    }
}
