//! What is printed.

use super::{
    measure::Sample,
    rows::{Row, Work},
};

/// Runs of a row, runc's and Bulkhead's.
pub type Pairs = Vec<(Sample, Sample)>;

/// The line above the rows.
pub fn header(title: &str) {
    println!("\n{title}");
    println!(
        "{:<20}{:>4}{:>12}{:>12}{:>8}{:>6}{:>5}{:>17}{:>21}",
        "", "", "runc", "bulkhead", "ratio", "goal", "", "peak MB, r  b", "CPU s, r  b"
    );
}

/// A row. Returns whether the goal was reached, if there is one.
pub fn row(row: &Row, pairs: &Pairs, with_goal: bool) -> bool {
    let runc = median(pairs.iter().map(|(runc, _)| runc.time));
    let bulkhead = median(pairs.iter().map(|(_, bulkhead)| bulkhead.time));
    let ratio = median(pairs.iter().map(|(runc, bulkhead)| bulkhead.time / runc.time));
    let goal = row.goal.filter(|_| with_goal);
    // What is printed decides: nobody should see a goal missed by nothing.
    let missed = goal.is_some_and(|goal| (ratio * 100.0).round() > (goal * 100.0).round());
    let (unit, places) = if matches!(row.work, Work::Operation(_)) { ("ns", 0) } else { ("s", 3) };
    let both = |value: fn(&Sample) -> Option<f64>, places: usize| {
        let of = |values: Vec<Option<f64>>| {
            let values: Option<Vec<f64>> = values.into_iter().collect();
            values.map_or_else(|| "-".into(), |values| format!("{:.places$}", median(values.into_iter())))
        };
        (of(pairs.iter().map(|pair| value(&pair.0)).collect()), of(pairs.iter().map(|pair| value(&pair.1)).collect()))
    };
    let (runc_peak, peak) = both(|sample| sample.peak, 1);
    let (runc_cpu, cpu) = both(|sample| sample.cpu, 3);
    println!(
        "{:<20}{unit:>4}{runc:>12.places$}{bulkhead:>12.places$}{ratio:>8.2}{:>6}{:>5}{runc_peak:>9}{peak:>8}{runc_cpu:>12}{cpu:>9}",
        row.name,
        goal.map_or_else(|| "-".into(), |goal| goal.to_string()),
        if missed { "over" } else { "" },
    );
    !missed
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
