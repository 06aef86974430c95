//! Load: what becomes of lookups as more of them are offered than there is time for.

use std::path::Path;

use libp2p_kademlia::sim::Summary;
use plotters::prelude::*;

use super::super::figures::{finished_a_second, mean};
use super::super::setting::Setting;
use super::{
    Area, Axis, COLOURS, LINE, Result, chart, decades, legend, millis, multiples, percent, written_millis,
};

/// Four pictures in one.
const SIZE: (u32, u32) = (1160, 860);

/// What has come of one rate.
struct Point {
    offered: f64,
    finished: f64,
    p50: f64,
    p99: f64,
    recall: f64,
    requests: f64,
}

/// What is drawn of a point.
type Drawn = fn(&Point) -> f64;

/// A line of each picture: the settings that differ in their rates alone.
struct Rates<'a> {
    label: &'a str,
    points: Vec<Point>,
}

/// Draws how many lookups finish, how long they take, what they find and what they cost, over how many are offered.
pub(super) fn draw(path: &Path, settings: &[Setting]) -> Result<()> {
    let all = rates(settings);
    if all.is_empty() {
        return Ok(());
    }
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let parts = area.split_evenly((2, 2));
    let [finished, latency, recall, requests] = parts.as_slice() else { return Ok(()) };
    let rising = |name, of: &dyn Fn(&Point) -> f64| linear(name, most(&all, of));
    // As far as the other way, if that is not less.
    let offered = |point: &Point| point.offered.max(point.finished);
    picture(
        finished,
        "Lookups that finish",
        &all,
        rising("finished a second", &offered),
        (&[|point| point.finished], false),
    )?;
    let times = || all.iter().flat_map(|rates| &rates.points).flat_map(|point| [point.p50, point.p99]);
    let (least, greatest) = (times().fold(f64::MAX, f64::min), times().fold(f64::MIN, f64::max));
    let log = Axis {
        name: "from the beginning to the end",
        numbers: decades(least.log10() - 0.1..greatest.log10() + 0.1),
        written: &|log| written_millis(10f64.powf(*log)),
    };
    let lines: [Drawn; 2] = [|point| point.p50.log10(), |point| point.p99.log10()];
    picture(latency, "How long they take: half, and 99 % (dashed)", &all, log, (&lines, false))?;
    let share = percent("of the closest, found", 105.0);
    picture(recall, "What they find", &all, share, (&[|point| 100.0 * point.recall], true))?;
    let cost = rising("requests a lookup", &|point| point.requests);
    picture(requests, "What they cost", &all, cost, (&[|point| point.requests], false))?;
    area.present()?;
    Ok(())
}

/// Returns what has come of the settings, those together that differ in their rates alone.
fn rates(settings: &[Setting]) -> Vec<Rates<'_>> {
    let mut all: Vec<Rates<'_>> = Vec::new();
    for setting in settings {
        let Some(((label, rate), point)) = setting.offered.as_ref().zip(point(setting)) else { continue };
        let point = Point { offered: rate.get().into(), ..point };
        match all.iter_mut().find(|rates| rates.label == label) {
            Some(rates) => rates.points.push(point),
            None => all.push(Rates { label, points: vec![point] }),
        }
    }
    for rates in &mut all {
        rates.points.sort_by(|one, other| one.offered.total_cmp(&other.offered));
    }
    all
}

/// Returns what has come of a setting, whatever its rate; `None` if nothing has.
fn point(setting: &Setting) -> Option<Point> {
    let rates: Vec<_> = setting.whole().filter_map(|run| finished_a_second(&run.report)).collect();
    let finished = mean(&rates)?.mean;
    let Summary { p50, p99, recall, requests, .. } =
        Summary::of(setting.whole().flat_map(|run| &run.report.lookups));
    let [p50, p99] = [p50, p99].map(|time| millis(time).max(0.1));
    Some(Point { offered: 0.0, finished, p50, p99, recall, requests })
}

fn most(all: &[Rates<'_>], of: &dyn Fn(&Point) -> f64) -> f64 {
    all.iter().flat_map(|rates| &rates.points).map(of).fold(1.0, f64::max)
}

/// An axis from zero on, with some five ticks.
fn linear(name: &str, top: f64) -> Axis<'_> {
    let power = 10f64.powf((top / 5.0).log10().floor().max(0.0));
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| top / step <= 6.0);
    let numbers = multiples(0.0..top * 1.05, step.unwrap_or(top), f64::MAX);
    Axis { name, numbers, written: &|number| format!("{number:.0}") }
}

/// Draws one of the pictures: of each label the lines of some figures, the second dashed; with a legend if nothing is drawn low.
fn picture(
    area: &Area<'_>,
    title: &str,
    all: &[Rates<'_>],
    y: Axis<'_>,
    (figures, has_legend): (&[Drawn], bool),
) -> Result<()> {
    let x = linear("lookups offered a second", most(all, &|point| point.offered));
    let mut chart = chart(area, title, x, y)?;
    for (rates, colour) in all.iter().zip(COLOURS.iter().cycle()) {
        let style = colour.stroke_width(LINE);
        let line = |figure: Drawn| {
            rates.points.iter().map(move |point| (point.offered, figure(point))).collect::<Vec<_>>()
        };
        for (figure, is_dashed) in figures.iter().zip([false, true]) {
            if is_dashed {
                chart.draw_series(DashedLineSeries::new(line(*figure), 6, 4, style))?;
            } else {
                chart
                    .draw_series(LineSeries::new(line(*figure), style).point_size(3))?
                    .label(rates.label)
                    .legend(move |at| PathElement::new([at, (at.0 + 20, at.1)], style));
            }
        }
    }
    if has_legend {
        legend(&mut chart, SeriesLabelPosition::LowerRight)?;
    }
    Ok(())
}
