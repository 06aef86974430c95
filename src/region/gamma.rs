//! The Gamma distribution of whole shape: how far from a key its closest peers are, if nobody has chosen their places.

/// So many terms a series has at most: far behind the last that counts for shapes up to some thousand (chosen, not measured).
const MAX_TERMS: u32 = 4096;

/// Returns how likely a number of the Gamma distribution of a shape is at most `x`: that of `shape` events or more, where `x`
/// are expected.
pub(crate) fn cdf(shape: u32, x: f64) -> f64 {
    if shape == 0 || x.is_nan() || x <= 0.0 {
        return if shape == 0 { 1.0 } else { 0.0 };
    }
    let upper = x > f64::from(shape);
    // The sum that has the smaller result, so that what is tiny is exact: of what is there at most, or at least.
    let (first, last) = if upper { (0, shape) } else { (shape, MAX_TERMS) };
    let mut term = (1..=first).fold(-x, |log, i| log + x.ln() - f64::from(i).ln()).exp();
    let mut sum = 0.0;
    for i in first..last {
        sum += term;
        term *= x / f64::from(i + 1);
        if f64::from(i) > x && term < sum * f64::EPSILON {
            break;
        }
    }
    if upper { 1.0 - sum } else { sum.min(1.0) }
}

/// Returns what a number of the Gamma distribution of a shape does not exceed, as likely as a number of the normal distribution
/// does not exceed `normal`.
///
/// By the formula of Wilson and Hilferty, which is off by less than 0.1 % from a shape of 20 on.
pub(crate) fn quantile(shape: f64, normal: f64) -> f64 {
    let ninth = 1.0 / (9.0 * shape);
    shape * (1.0 - ninth + normal * ninth.sqrt()).max(0.0).powi(3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_near(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-3 * b.abs()
    }

    #[test]
    fn the_distribution_is_that_of_the_books() {
        // 1 - e^-x; and the table of chi-squared, whose half with 2k degrees of freedom this is.
        assert!(is_near(cdf(1, 0.01), 1.0 - (-0.01f64).exp()));
        assert!(is_near(cdf(1, 5.0), 1.0 - (-5.0f64).exp()));
        assert!(is_near(cdf(20, 8.958), 0.001), "chi-squared, 40 degrees: 17.916");
        assert!(is_near(cdf(20, 29.671), 0.975), "chi-squared, 40 degrees: 59.342");
        assert!(is_near(cdf(5, 1.0), 3.6598e-3));
        assert!(cdf(20, 1e-6) < 1e-130 && cdf(20, 1e9) >= 1.0 && cdf(3, 0.0) <= 0.0 && cdf(0, 0.0) >= 1.0);
        assert!(cdf(2000, 2000.0) > 0.5 && cdf(2000, 1800.0) < 1e-4, "large shapes");
    }

    #[test]
    fn quantiles_and_the_distribution_are_each_others_inverse() {
        for (shape, exact) in [(20, 12.217), (320, 285.9)] {
            let low = quantile(f64::from(shape), -1.959_964);
            assert!((low - exact).abs() < exact * 2e-3, "{low}");
            assert!((cdf(shape, low) - 0.025).abs() < 5e-4);
            assert!((cdf(shape, quantile(f64::from(shape), 1.959_964)) - 0.975).abs() < 5e-4);
        }
    }
}
