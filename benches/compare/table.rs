//! The table that is printed, line by line as soon as each is known.

/// What was measured of one node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) allocations: Option<f64>,
}

impl Figure {
    pub(crate) const fn plain(value: f64) -> Self {
        Self { value, allocations: None }
    }
}

/// What was measured of one node, or why nothing was; `None` where there is nothing to be measured.
pub(crate) type Cell = Option<Result<Figure, super::Failure>>;

/// A line.
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) unit: &'static str,
    /// The floor's, or the lean client's.
    pub(crate) floor: Cell,
    pub(crate) theirs: Cell,
    pub(crate) ours: Cell,
    /// How many allocations are the most that this crate may make: counts are the same on every machine.
    pub(crate) most: Option<f64>,
}

const HEAD: [&str; 10] = [
    "row",
    "unit",
    "floor",
    "libp2p-kad",
    "here",
    "here/floor",
    "here/kad",
    "allocs: floor",
    "libp2p-kad",
    "here",
];

/// How wide each column is.
const WIDTHS: [usize; 10] = [68, 9, 9, 10, 9, 10, 8, 13, 10, 8];

/// The table.
pub(crate) struct Table {
    is_markdown: bool,
    notes: Vec<String>,
    has_failed: bool,
}

impl Table {
    /// Begins a table.
    pub(crate) fn new(is_markdown: bool) -> Self {
        print(HEAD.map(String::from), is_markdown);
        if is_markdown {
            println!("|---|---|{}", "---:|".repeat(HEAD.len() - 2));
        }
        Self { is_markdown, notes: Vec::new(), has_failed: false }
    }

    /// Prints a line.
    pub(crate) fn line(&mut self, line: Line<'_>) {
        let Line { name, unit, floor, theirs, ours, most } = line;
        let [floor, theirs, ours] = [("floor", floor), ("libp2p-kad", theirs), ("here", ours)]
            .map(|(whose, cell)| self.figure(name, whose, cell));
        let value = |figure: Option<Figure>| figure.map(|figure| figure.value);
        let allocations = |figure: Option<Figure>| figure.and_then(|figure| figure.allocations);
        if let (Some(made), Some(most)) = (allocations(ours), most)
            && made > most
        {
            self.note(format!("{name}: {made:.1} allocations, more than {most}"));
            self.has_failed = true;
        }
        let ratio = |to: Option<Figure>| {
            let to = to.filter(|to| to.value > 0.0);
            ours.zip(to).map(|(ours, to)| ours.value / to.value)
        };
        let figures = [
            value(floor),
            value(theirs),
            value(ours),
            ratio(floor),
            ratio(theirs),
            allocations(floor),
            allocations(theirs),
            allocations(ours),
        ];
        let mut texts = figures.map(|figure| figure.map_or_else(|| "-".into(), number)).into_iter();
        let texts = std::array::from_fn(|at| match at {
            0 => name.to_owned(),
            1 => unit.to_owned(),
            _ => texts.next().unwrap(),
        });
        print(texts, self.is_markdown);
    }

    /// Adds what is to be said below the table.
    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn figure(&mut self, name: &str, whose: &str, cell: Cell) -> Option<Figure> {
        match cell? {
            Ok(figure) => Some(figure),
            Err(failure) => {
                self.note(format!("{name}, {whose}: {failure}"));
                self.has_failed = true;
                None
            }
        }
    }

    /// Ends the table, and returns whether all was measured and no count is higher than it may be.
    pub(crate) fn end(self) -> bool {
        for note in self.notes {
            println!("\n{note}");
        }
        !self.has_failed
    }
}

/// Three digits or so.
fn number(value: f64) -> String {
    let decimals = if value.abs() < 10.0 { 2 } else { usize::from(value.abs() < 100.0) };
    format!("{value:.decimals$}")
}

fn print(texts: [String; 10], is_markdown: bool) {
    if is_markdown {
        println!("| {} |", texts.join(" | "));
        return;
    }
    let mut line = String::new();
    for (at, (text, width)) in texts.iter().zip(WIDTHS).enumerate() {
        let text = if at < 2 { format!("{text:<width$} ") } else { format!("{text:>width$} ") };
        line.push_str(&text);
    }
    println!("{}", line.trim_end());
}
