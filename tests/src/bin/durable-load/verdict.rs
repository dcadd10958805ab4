//! What was found against what is wanted, in a line; and the middle of several figures.

use std::fmt::Display;

/// Prints whether it holds, and hands that back.
pub(crate) fn verdict(holds: bool, what: &str, found: impl Display, wanted: impl Display) -> bool {
    let word = if holds { "HOLDS" } else { "DOES NOT HOLD" };
    println!("{word}  {what}: found {found}, wanted {wanted}");
    holds
}

/// The one in the middle, or between the two that are.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    } else {
        sorted[middle]
    }
}

/// The median, and all of them in the order in which they were measured.
pub(crate) fn all(values: &[f64]) -> String {
    let each: Vec<String> = values.iter().map(|value| format!("{value:.3}")).collect();
    format!("{:.3} (of {})", median(values), each.join(" "))
}
