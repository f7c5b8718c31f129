//! Medians and ranges of a handful of rounds.

use serde_json::{Value, json};

/// A median with its range. All three are NaN if there was no round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Summary {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Summary {
    /// The middle value, or the mean of the two middle ones.
    pub(super) fn new(values: impl IntoIterator<Item = f64>) -> Summary {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else {
            return Summary { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        };
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Summary { median, min, max }
    }

    /// For a report; NaN becomes null.
    pub(super) fn to_json(self) -> Value {
        json!({"median": self.median, "min": self.min, "max": self.max})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(Summary::new([3.0, 1.0, 2.0]), Summary { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Summary::new([4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Summary::new([7.0]), Summary { median: 7.0, min: 7.0, max: 7.0 });
    }

    #[test]
    fn no_rounds_have_no_median() {
        let summary = Summary::new([]);
        assert!(summary.median.is_nan());
        assert_eq!(summary.to_json()["median"], Value::Null);
    }
}
