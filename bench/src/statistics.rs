//! Medians and ranges.

/// Measured values, in order.
pub(crate) struct Sample(Vec<f64>);

impl Sample {
    /// A sample of values in any order.
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// The value that so many of a hundred do not exceed.
    pub(crate) fn at(&self, percent: usize) -> f64 {
        let place = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(place).copied().unwrap_or(f64::NAN)
    }

    /// Median, least and greatest, on one line.
    pub(crate) fn print(&self, name: &str, digits: usize) {
        let (low, middle, high) = (self.at(0), self.at(50), self.at(100));
        println!("{name} {middle:.digits$} ({low:.digits$} to {high:.digits$})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let sample = Sample::new((1..=100).rev().map(f64::from).collect());
        assert_eq!([0, 50, 99, 100].map(|percent| sample.at(percent)), [1.0, 50.0, 99.0, 100.0]);
        assert_eq!(Sample::new(vec![3.0]).at(99), 3.0);
        assert!(Sample::new(vec![]).at(50).is_nan());
    }
}
