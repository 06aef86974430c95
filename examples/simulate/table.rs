//! A table of several settings, side by side: each in a column, of several seeds the mean and its interval.

use std::fmt;

use super::figures::{FIGURES, Figure, STALE, Sums, mean};
use super::setting::Setting;

/// What each setting came to.
pub(crate) struct Table<'a>(pub(crate) &'a [Setting]);

/// A column: a setting of which some run was not stopped.
struct Column<'a> {
    label: &'a str,
    width: usize,
    is_ideal: bool,
    runs: Vec<Sums<'a>>,
}

impl<'a> Column<'a> {
    fn of(setting: &'a Setting, least: usize) -> Option<Self> {
        let is_ideal = setting.whole().next()?.report.ideal;
        let width = setting.label.chars().count().max(least) + 2;
        let runs = setting.whole().map(|run| Sums::of(&run.report)).collect();
        Some(Self { label: &setting.label, width, is_ideal, runs })
    }

    fn cell(&self, figure: &Figure) -> Option<String> {
        let numbers: Vec<_> = self.runs.iter().filter_map(|run| figure.of(run)).collect();
        cell(&numbers, figure.digits)
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let several = self.0.iter().any(|setting| setting.whole().count() > 1);
        // The second is as wide as a mean and its interval.
        let least = if several { 18 } else { 10 };
        let columns: Vec<_> = self.0.iter().filter_map(|setting| Column::of(setting, least)).collect();
        let line = |f: &mut fmt::Formatter<'_>, name: &str, cell: &dyn Fn(&Column<'_>) -> String| {
            write!(f, "{name:<38}")?;
            columns
                .iter()
                .try_for_each(|column| write!(f, "{:>width$}", cell(column), width = column.width))?;
            writeln!(f)
        };
        line(f, "", &|column| column.label.to_owned())?;
        if several {
            line(f, "seeds", &|column| column.runs.len().to_string())?;
        }
        for figure in FIGURES {
            if columns.iter().any(|column| column.cell(figure).is_some()) {
                line(f, figure.name, &|column| {
                    let mark = if figure.key == STALE && column.is_ideal { "*" } else { "" };
                    column.cell(figure).map_or_else(|| "-".to_owned(), |cell| format!("{mark}{cell}"))
                })?;
            }
        }
        if columns.iter().any(|column| column.is_ideal) {
            writeln!(f, "* the tables were ideal from the beginning; none of their entries is probed")?;
        }
        if several {
            writeln!(f, "± half of the 95 % interval of the mean over the seeds")?;
        }
        Ok(())
    }
}

/// Writes a number, or the mean of several and half of its interval, if there is any.
fn cell(numbers: &[f64], digits: usize) -> Option<String> {
    let all = mean(numbers)?;
    // The mean of several is finer than each.
    let digits = if numbers.len() > 1 { digits.max(1) } else { digits };
    let mean = format!("{:.digits$}", all.mean);
    Some(all.half.map_or(mean.clone(), |half| format!("{mean} ±{half:.digits$}")))
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_is_a_number_or_a_mean_with_its_interval() {
        assert_eq!(cell(&[], 2), None);
        assert_eq!(cell(&[7.0], 0).as_deref(), Some("7"));
        assert_eq!(cell(&[1.0, 2.0, 3.0, 4.0, 5.0], 2).as_deref(), Some("3.00 ±1.96"));
        assert_eq!(cell(&[7.0, 7.0], 0).as_deref(), Some("7.0 ±0.0"));
    }
}
