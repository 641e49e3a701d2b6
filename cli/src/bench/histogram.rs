//! How times are spread, as lines of text.

use hdrhistogram::Histogram;

/// Where the first line ends, in µs. Each line reaches to twice the one before.
const FIRST: u64 = 125;
/// The longest bar.
const WIDTH: u64 = 50;

/// One line for each doubling of time between the shortest and the longest: its end, a bar, how many.
pub fn lines(times: &Histogram<u64>) -> Vec<String> {
    let buckets = buckets(times);
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or_default();
    buckets
        .into_iter()
        .map(|(end, count)| {
            let bar = "#".repeat(usize::try_from((count * WIDTH).div_ceil(most.max(1))).unwrap_or_default());
            format!("≤ {:>8}  {bar:<50}  {count}", millis(end))
        })
        .collect()
}

/// The end of each line in µs, and how many times lie between it and the one before.
fn buckets(times: &Histogram<u64>) -> Vec<(u64, u64)> {
    let mut buckets = Vec::new();
    let (mut end, mut counted) = (FIRST, 0);
    while counted < times.len() {
        let so_far = times.count_between(0, end);
        if so_far > 0 {
            buckets.push((end, so_far - counted));
        }
        counted = so_far;
        end = end.saturating_mul(2);
    }
    buckets
}

/// µs as people read them.
pub fn millis(micros: u64) -> String {
    let millis = micros as f64 / 1000.0;
    match micros {
        0..1_000 => format!("{millis:.3} ms"),
        1_000..10_000 => format!("{millis:.2} ms"),
        10_000..100_000 => format!("{millis:.1} ms"),
        100_000..10_000_000 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(values: &[u64]) -> Histogram<u64> {
        let mut times = Histogram::new(3).unwrap();
        for value in values {
            times.record(*value).unwrap();
        }
        times
    }

    #[test]
    fn every_time_stands_in_one_line() {
        let values: Vec<_> = (1..=100_000).step_by(7).collect();
        let times = times(&values);
        let buckets = buckets(&times);
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), times.len());
        assert_eq!(buckets.first().unwrap().0, 125);
        assert_eq!(buckets.last().unwrap().0, 128_000);
        assert!(buckets.windows(2).all(|pair| pair[1].0 == 2 * pair[0].0));
    }

    #[test]
    fn lines_begin_with_the_shortest_and_show_what_lies_between() {
        let lines = lines(&times(&[900, 950, 3_000]));
        assert_eq!(
            lines,
            [
                format!("≤  1.00 ms  {:<50}  2", "#".repeat(50)),
                format!("≤  2.00 ms  {:<50}  0", ""),
                format!("≤  4.00 ms  {:<50}  1", "#".repeat(25)),
            ]
        );
    }

    #[test]
    fn nothing_has_no_lines() {
        assert!(lines(&times(&[])).is_empty());
    }

    #[test]
    fn times_are_shown_with_three_digits() {
        let shown = [7, 1_337, 42_000, 123_456, 12_345_678].map(millis);
        assert_eq!(shown, ["0.007 ms", "1.34 ms", "42.0 ms", "123 ms", "12.3 s"]);
    }
}
