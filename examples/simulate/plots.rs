//! Plots: what came of runs, as pictures in SVG.

// A test includes this file from elsewhere; with its path the module is found from both.
#[path = "plots/load.rs"]
mod load;

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use libp2p_kademlia::sim::{Health, LookupOutcome};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::setting::Setting;

type Result<T> = std::result::Result<T, Box<dyn Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Ticked, Ticked>>;

const SIZE: (u32, u32) = (800, 480);
const TITLE: (&str, i32) = ("sans-serif", 22);
const TEXT: (&str, i32) = ("sans-serif", 17);
const LINE: u32 = 2;

/// Colours that are told apart by all eyes, and on white.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 95, 170),
    RGBColor(213, 94, 0),
    RGBColor(0, 140, 100),
    RGBColor(190, 90, 150),
    RGBColor(120, 85, 30),
    RGBColor(60, 60, 60),
];

/// The files that may be drawn.
pub(crate) const NAMES: [&str; 4] = ["latency.svg", "hops.svg", "health.svg", "load.svg"];

/// A line of a picture.
struct Run<'a> {
    label: &'a str,
    /// Those of all seeds.
    lookups: Vec<&'a LookupOutcome>,
    /// That of the first seed, and how long its network took to come to be.
    health: &'a [Health],
    setup_took: Duration,
}

/// Draws what there is to draw: `latency.svg` and `hops.svg` if anything was looked up, `health.svg` if it was sampled; or
/// `load.svg` alone if rates were offered.
pub(crate) fn draw(directory: &Path, settings: &[Setting]) -> Result<()> {
    let [latencies, hops_of_lookups, health_of_tables, loads] = NAMES.map(|name| directory.join(name));
    if settings.iter().any(|setting| setting.offered.is_some()) {
        return load::draw(&loads, settings);
    }
    let lines = settings.iter().filter_map(|setting| {
        let first = &setting.runs.first()?.report;
        let lookups = setting.runs.iter().flat_map(|run| &run.report.lookups).collect();
        let (label, health, setup_took) = (&setting.label, &first.health, first.setup_took);
        Some(Run { label, lookups, health, setup_took })
    });
    let runs: Vec<_> = lines.collect();
    if runs.iter().any(|run| !run.lookups.is_empty()) {
        latency(&latencies, &runs)?;
        hops(&hops_of_lookups, &runs)?;
    }
    // The last look is taken at the end, sampled or not.
    if runs.iter().any(|run| run.health.len() > 1) {
        health(&health_of_tables, &runs)?;
    }
    Ok(())
}

/// A range of numbers, and those of them that have a tick.
struct Ticked {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        #[expect(clippy::cast_possible_truncation, reason = "a place in a picture, or somewhat beside it")]
        let place = (f64::from(to - from) * part).round() as i32;
        from + place
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        // There are no light lines between the ticks.
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// One direction of a picture.
struct Axis<'a> {
    name: &'a str,
    numbers: Ticked,
    written: &'a dyn Fn(&f64) -> String,
}

/// Draws the title and the axes.
fn chart<'a>(area: &Area<'a>, title: &str, x: Axis<'_>, y: Axis<'_>) -> Result<Chart<'a>> {
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .margin_right(28)
        .caption(title, TITLE)
        .x_label_area_size(52)
        .y_label_area_size(74)
        .build_cartesian_2d(x.numbers, y.numbers)?;
    chart
        .configure_mesh()
        .bold_line_style(RGBColor(222, 222, 222))
        .axis_style(RGBColor(90, 90, 90))
        .label_style(TEXT)
        .axis_desc_style(TEXT)
        .x_desc(x.name)
        .y_desc(y.name)
        .x_label_formatter(x.written)
        .y_label_formatter(y.written)
        .draw()?;
    Ok(chart)
}

/// Draws the legend, and writes the picture.
fn finish(area: &Area<'_>, mut chart: Chart<'_>, position: SeriesLabelPosition) -> Result<()> {
    legend(&mut chart, position)?;
    area.present()?;
    Ok(())
}

fn legend(chart: &mut Chart<'_>, position: SeriesLabelPosition) -> Result<()> {
    chart
        .configure_series_labels()
        .position(position)
        .margin(12)
        .background_style(WHITE)
        .border_style(RGBColor(170, 170, 170))
        .label_font(TEXT)
        .draw()?;
    Ok(())
}

/// An axis of shares in percent, up to `top`.
fn percent<'a>(name: &'a str, top: f64) -> Axis<'a> {
    let step = if top > 50.0 {
        20.0
    } else if top > 20.0 {
        10.0
    } else {
        5.0
    };
    Axis { name, numbers: multiples(0.0..top, step, 100.0), written: &|share| format!("{share:.0} %") }
}

/// A range with ticks at the multiples of a step from zero on, up to `last`.
fn multiples(range: Range<f64>, step: f64, last: f64) -> Ticked {
    let multiples = (0..1000).map(|n| step * f64::from(n));
    let ticks = multiples.filter(|at| *at >= range.start && *at <= range.end && *at <= last).collect();
    Ticked { range, ticks }
}

/// Makes room above what reaches up to `top` for a legend of so many lines: returns the size of the picture and where its
/// axis ends.
fn with_room(top: f64, lines: usize) -> ((u32, u32), f64) {
    // Of the usual height this much is for what is drawn, and a line of the legend is so high.
    const DRAWN: f64 = 372.0;
    const LINE: u32 = 22;
    let more = LINE * u32::try_from(lines).unwrap_or_default();
    ((SIZE.0, SIZE.1 + more), top * (DRAWN + f64::from(more)) / (DRAWN - 28.0))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The share of lookups that have ended, over time. Time is drawn by its logarithm, so that the tail is seen too.
fn latency(path: &Path, runs: &[Run<'_>]) -> Result<()> {
    let lines: Vec<_> = runs.iter().map(distribution).collect();
    let ends = || lines.iter().flatten().map(|(time, _)| *time);
    let (first, last) = (ends().fold(f64::MAX, f64::min), ends().fold(f64::MIN, f64::max));
    let range = first - 0.05..last + 0.1;
    let axis = Axis {
        name: "time from the beginning of a lookup",
        numbers: decades(range),
        written: &|log| written_millis(10f64.powf(*log)),
    };
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    let mut chart = chart(&area, "How long lookups take", axis, percent("lookups that have ended", 100.0))?;
    for ((run, line), colour) in runs.iter().zip(lines).zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(line, colour.stroke_width(LINE)))?
            .label(run.label)
            .legend(|at| PathElement::new([at, (at.0 + 20, at.1)], colour.stroke_width(LINE)));
    }
    finish(&area, chart, SeriesLabelPosition::LowerRight)
}

/// The logarithms of times within which shares of the lookups have ended, in percent; some hundred points.
fn distribution(run: &Run<'_>) -> Vec<(f64, f64)> {
    let mut times: Vec<_> = run.lookups.iter().map(|lookup| lookup.took).collect();
    times.sort_unstable();
    // Half percents, and near the end tenths of a percent.
    let shares = (0..=1000usize).filter(|share| share % 5 == 0 || *share > 980);
    let time = |share: usize| times.get((times.len() * share).div_ceil(1000).saturating_sub(1));
    let points = shares.filter_map(|share| Some((share, time(share)?)));
    let mut before = 0.0;
    let steps = points.flat_map(|(share, time)| {
        let (at, share) = (millis(*time).max(0.1).log10(), thousandths(share));
        [(at, std::mem::replace(&mut before, share)), (at, share)]
    });
    steps.collect()
}

#[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
fn thousandths(share: usize) -> f64 {
    share as f64 / 10.0
}

/// A range of logarithms with ticks at 1, 2 and 5 times the powers of ten, or at the powers alone if they are many.
fn decades(range: Range<f64>) -> Ticked {
    let parts: &[f64] = if range.end - range.start < 3.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let times = (-1..10).flat_map(|power| parts.iter().map(move |part| f64::from(power) + part.log10()));
    let ticks = times.filter(|at| range.contains(at)).collect();
    Ticked { range, ticks }
}

fn written_millis(millis: f64) -> String {
    // Rounded: they were logarithms.
    if millis < 0.95 {
        format!("{millis:.1} ms")
    } else if millis < 995.0 {
        format!("{millis:.0} ms")
    } else {
        format!("{:.0} s", millis / 1e3)
    }
}

/// How many lookups took how many hops.
fn hops(path: &Path, runs: &[Run<'_>]) -> Result<()> {
    let counts: Vec<_> = runs.iter().map(shares_by_hops).collect();
    let most = counts.iter().map(Vec::len).max().unwrap_or_default();
    let least = counts.iter().filter_map(|shares| shares.iter().position(|share| *share > 0.0)).min();
    let range = coordinate(least.unwrap_or_default()) - 0.5..coordinate(most) - 0.5;
    let axis = Axis {
        name: "hops: peers asked one after another to find the closest",
        numbers: multiples(range, if most > 20 { 5.0 } else { 1.0 }, f64::MAX),
        written: &|hops| format!("{hops:.0}"),
    };
    let top = counts.iter().flatten().fold(5.0, |top: f64, share| top.max(*share));
    let (size, top) = with_room(top, runs.len());
    let area = SVGBackend::new(path, size).into_drawing_area();
    let mut chart = chart(&area, "How many hops lookups take", axis, percent("lookups", top))?;
    let width = 0.8 / coordinate(runs.len());
    for (n, ((run, counts), colour)) in runs.iter().zip(counts).zip(COLOURS.iter().cycle()).enumerate() {
        let left = coordinate(n) * width - 0.4;
        let bar = |(hops, share)| {
            let at = coordinate(hops) + left;
            Rectangle::new([(at, 0.0), (at + width, share)], colour.filled())
        };
        chart
            .draw_series(counts.into_iter().enumerate().filter(|(_, share)| *share > 0.0).map(bar))?
            .label(run.label)
            .legend(|(x, y)| Rectangle::new([(x, y - 6), (x + 20, y + 6)], colour.filled()));
    }
    finish(&area, chart, SeriesLabelPosition::UpperRight)
}

#[expect(clippy::cast_precision_loss, reason = "a number of hops or runs")]
fn coordinate(number: usize) -> f64 {
    number as f64
}

/// The share of the lookups that took no hop, one, two and so on, in percent.
fn shares_by_hops(run: &Run<'_>) -> Vec<f64> {
    let lookups = &run.lookups;
    let mut shares = Vec::new();
    for lookup in lookups {
        // A lookup has no more hops than requests, of which there are not many.
        let hops = usize::try_from(lookup.hops).unwrap_or(usize::MAX).min(1000);
        shares.resize(shares.len().max(hops + 1), 0.0);
        if let Some(share) = shares.get_mut(hops) {
            *share += 100.0 / coordinate(lookups.len());
        }
    }
    shares
}

/// How good the tables were over time.
fn health(path: &Path, runs: &[Run<'_>]) -> Result<()> {
    let since = |run: &Run<'_>, health: &Health| health.at.saturating_sub(run.setup_took).as_secs_f64();
    let end = runs.iter().flat_map(|run| run.health.iter().map(move |health| since(run, health)));
    let end = end.fold(1.0, f64::max);
    let (name, unit, step) = time_unit(end);
    let axis = Axis {
        name: &format!("time since the network stood, {name}"),
        numbers: multiples(0.0..end / unit, step, f64::MAX),
        // Rounded: they are multiples of tenths.
        written: &|time| format!("{}", (time * 10.0).round() / 10.0),
    };
    let (size, top) = with_room(102.0, if runs.len() > 1 { runs.len() + 2 } else { 2 });
    let area = SVGBackend::new(path, size).into_drawing_area();
    let mut chart = chart(&area, "How good the tables are", axis, percent("share", top))?;
    for (run, colour) in runs.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(LINE);
        let line = |show: fn(&Health) -> f64| {
            let line = run.health.iter().map(|health| (since(run, health) / unit, show(health)));
            line.collect::<Vec<_>>()
        };
        let series = chart.draw_series(LineSeries::new(line(|health| 100.0 * health.near), style))?;
        if runs.len() > 1 {
            series.label(run.label).legend(move |at| PathElement::new([at, (at.0 + 20, at.1)], style));
        }
        chart.draw_series(DashedLineSeries::new(line(|health| 100.0 * health.stale), 6, 4, style))?;
    }
    // What the two kinds of lines mean, whatever their colour.
    let nothing = || std::iter::empty::<PathElement<_>>();
    let style = BLACK.stroke_width(LINE);
    chart
        .draw_series(nothing())?
        .label("nodes that know all but two of their nearest")
        .legend(move |at| PathElement::new([at, (at.0 + 20, at.1)], style));
    chart
        .draw_series(nothing())?
        .label("entries of tables that are stale")
        .legend(move |at| DashedPathElement::new([at, (at.0 + 20, at.1)], 6, 4, style));
    finish(&area, chart, SeriesLabelPosition::UpperRight)
}

/// In what unit so many seconds are written, how long it is, and after how many of them there is a tick.
fn time_unit(seconds: f64) -> (&'static str, f64, f64) {
    let (name, unit) = match seconds {
        ..180.0 => ("seconds", 1.0),
        ..10_800.0 => ("minutes", 60.0),
        ..259_200.0 => ("hours", 3600.0),
        _ => ("days", 86_400.0),
    };
    let steps = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 100.0, 200.0, 500.0];
    let step = steps.into_iter().find(|step| seconds / unit / step <= 10.0);
    (name, unit, step.unwrap_or(1000.0))
}
