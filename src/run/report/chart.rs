//! A line chart as a figure of a page: axes, ticks, legend, and what the script needs to read values off it.

use super::text::{coordinate, escape, number, signed};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 236.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 42.0;
const RIGHT: f64 = 14.0;
/// Average advance of a digit at the size of the ticks.
const DIGIT: f64 = 7.2;
/// Lines with at most so many points show them.
const MARKED: usize = 24;

/// A line: its name in the legend, its class (which has its colour), its points from left to right.
pub struct Series {
    pub name: String,
    pub class: String,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    pub fn new(name: impl Into<String>, class: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), class: class.into(), points }
    }
}

pub struct Chart<'a> {
    pub title: &'a str,
    /// What the values are measured in, with what has to be known to read them.
    pub unit: &'a str,
    /// Counts: whole ticks.
    pub whole: bool,
    /// The axis begins at 0.
    pub from_zero: bool,
    pub series: Vec<Series>,
}

/// An axis: its ends in values and in the picture, its ticks.
pub struct Axis {
    values: [f64; 2],
    pub places: [f64; 2],
    pub ticks: Vec<f64>,
    decimals: usize,
}

/// Of an axis, as a part of its largest value.
const LEAST_SPAN: f64 = 2e-4;

impl Axis {
    /// From `low` to `high` in about `parts` parts; if it `widens`, from tick to tick.
    pub fn new(low: f64, high: f64, whole: bool, parts: f64, widens: bool) -> Self {
        let (mut low, mut high) = (low, high);
        if high - low <= 1e-12 * high.abs().max(1e-12) {
            let pad = if whole { 1.0 } else { (high.abs() * 0.05).max(1e-9) };
            (low, high) = if whole && low == 0.0 { (0.0, pad) } else { (low - pad, high + pad) };
        }
        // what hardly moves looks as if it does, and ticks stay numbers that can be told apart
        let least = LEAST_SPAN * low.abs().max(high.abs());
        if high - low < least {
            let middle = (low + high) / 2.0;
            (low, high) = (middle - least / 2.0, middle + least / 2.0);
        }
        let step = nice((high - low) / parts);
        let step = if whole { step.max(1.0).round() } else { step };
        if widens {
            (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        }
        let first = (low / step - 1e-9).ceil();
        let count = ((high / step + 1e-9).floor() - first).clamp(0.0, 20.0) as usize;
        let ticks = (0..=count).map(|i| (first + i as f64) * step).collect();
        let decimals = (-(step.log10() + 1e-9).floor()).clamp(0.0, 12.0) as usize;
        Self { values: [low, high], places: [0.0; 2], ticks, decimals }
    }
    pub fn place(&self, value: f64) -> f64 {
        let part = (value - self.values[0]) / (self.values[1] - self.values[0]);
        self.places[0] + part * (self.places[1] - self.places[0])
    }
    pub fn label(&self, tick: f64) -> String {
        if tick.abs() >= 1e6 || (tick != 0.0 && self.decimals > 5) {
            return number(tick);
        }
        signed(&format!("{:.*}", self.decimals, tick + 0.0))
    }
    fn ends(&self) -> String {
        let [a, b] = self.values;
        let [p, q] = self.places.map(coordinate);
        format!("{a} {b} {p} {q}")
    }
}

/// The least of 1, 2 and 5 times a power of ten that is not below `step`.
fn nice(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let digit = step / power;
    power * [1.0, 2.0, 5.0].into_iter().find(|d| digit <= d * 1.000_001).unwrap_or(10.0)
}

impl Chart<'_> {
    /// The figure; `end` is the last epoch, and `per_epoch` says that points lie on whole epochs.
    pub fn figure(&self, end: usize, per_epoch: bool) -> String {
        let mut out = format!("<figure class=\"chart\">\n<figcaption><b>{}</b>", escape(self.title));
        out += &format!(" <span class=\"unit\">{}</span></figcaption>\n", escape(self.unit));
        out += "<p class=\"legend\">";
        for series in &self.series {
            out += &legend_item(&series.class, &series.name);
        }
        out += "</p>\n";
        out += &self.svg(end, per_epoch);
        out + "</figure>\n"
    }
    fn svg(&self, end: usize, per_epoch: bool) -> String {
        let values = || self.series.iter().flat_map(|series| &series.points).map(|point| point.1);
        let least = values().fold(f64::INFINITY, f64::min);
        let (low, high) =
            if least.is_finite() { (least, values().fold(least, f64::max)) } else { (0.0, 1.0) };
        let low = if self.from_zero { low.min(0.0) } else { low };
        let mut y = Axis::new(low, high, self.whole, 4.0, true);
        let start = if per_epoch { 1.0 } else { 0.0 };
        let mut x = Axis::new(start, (end as f64).max(start), true, 6.0, false);
        let widest = y.ticks.iter().map(|tick| y.label(*tick).chars().count()).max().unwrap_or(1);
        let left = 14.0 + DIGIT * widest as f64;
        // room for the points of the first and the last epoch
        let inset = if per_epoch { 8.0 } else { 0.0 };
        x.places = [left + inset, WIDTH - RIGHT - inset];
        y.places = [HEIGHT - BOTTOM, TOP];

        let mut out = format!(
            "<svg class=\"plot\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\" data-scale=\"{} {}\">\n",
            escape(&self.summary()),
            x.ends(),
            y.ends()
        );
        let right = WIDTH - RIGHT;
        out += "<g class=\"axes\">";
        for tick in &y.ticks {
            let at = coordinate(y.place(*tick));
            out += &format!("<path d=\"M{} {at}H{right}\"/>", coordinate(left));
            let baseline = coordinate(y.place(*tick) + 4.2);
            out += &format!("<text x=\"{}\" y=\"{baseline}\" class=\"y\">", coordinate(left - 6.0));
            out += &format!("{}</text>", y.label(*tick));
        }
        let floor = HEIGHT - BOTTOM;
        for tick in x.ticks.iter().filter(|tick| tick.fract().abs() < 1e-9) {
            if *tick < start || *tick > end as f64 {
                continue;
            }
            let at = coordinate(x.place(*tick));
            out += &format!("<path class=\"tick\" d=\"M{at} {floor}v4\"/>");
            out += &format!("<text x=\"{at}\" y=\"{}\" class=\"x\">{}</text>", floor + 18.0, x.label(*tick));
        }
        out += &format!("<path class=\"base\" d=\"M{} {floor}H{right}\"/>", coordinate(left));
        let middle = coordinate((left + right) / 2.0);
        out += &format!("<text x=\"{middle}\" y=\"{}\" class=\"x name\">epoch</text></g>\n", HEIGHT - 5.0);
        for series in &self.series {
            out += &line(series, &x, &y);
        }
        out + "</svg>\n"
    }
    fn summary(&self) -> String {
        let last = |series: &Series| Some(format!("{} {}", series.name, number(series.points.last()?.1)));
        let ends: Vec<String> = self.series.iter().filter_map(last).collect();
        format!("{} over the epochs; at the end {}", self.title, ends.join(", "))
    }
}

fn line(series: &Series, x: &Axis, y: &Axis) -> String {
    let places: Vec<(String, String)> = series
        .points
        .iter()
        .map(|point| (coordinate(x.place(point.0)), coordinate(y.place(point.1))))
        .collect();
    let points: Vec<String> = places.iter().map(|(x, y)| format!("{x},{y}")).collect();
    let mut out = format!(
        "<polyline class=\"line {}\" data-name=\"{}\" points=\"{}\"/>\n",
        series.class,
        escape(&series.name),
        points.join(" ")
    );
    if places.len() <= MARKED {
        out += &format!("<g class=\"dots {}\">", series.class);
        out.extend(places.iter().map(|(x, y)| format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"2.8\"/>")));
        out += "</g>\n";
    }
    out
}

/// A sample of a line and its name.
pub fn legend_item(class: &str, name: &str) -> String {
    format!(
        "<span><svg class=\"key\" viewBox=\"0 0 24 8\" aria-hidden=\"true\"><path class=\"line {class}\" d=\"M1 4H23\"/></svg> {}</span> ",
        escape(name)
    )
}

/// At most `most` points, each the mean of as many neighbours as it takes, and how many that is.
pub fn thin(points: Vec<(f64, f64)>, most: usize) -> (Vec<(f64, f64)>, usize) {
    let each = points.len().div_ceil(most).max(1);
    let mean = |group: &[(f64, f64)]| {
        let sum = group.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / group.len() as f64, sum.1 / group.len() as f64)
    };
    (points.chunks(each).map(mean).collect(), each)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64, whole: bool) -> Vec<String> {
        let axis = Axis::new(low, high, whole, 4.0, true);
        axis.ticks.iter().map(|tick| axis.label(*tick)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_around_the_values() {
        assert_eq!(labels(0.55, 2.14, false), ["0.5", "1.0", "1.5", "2.0", "2.5"]);
        assert_eq!(labels(0.0, 3.0, true), ["0", "1", "2", "3"]);
        assert_eq!(labels(0.0, 0.0, true), ["0", "1"]);
        assert_eq!(labels(21.3, 81.4, false), ["20", "40", "60", "80", "100"]);
        assert_eq!(labels(-0.3, 0.2, false), ["−0.4", "−0.2", "0.0", "0.2"]);
        assert_eq!(labels(2.079441, 2.079442, false), ["2.0792", "2.0794", "2.0796", "2.0798"]);
        assert!(labels(5.0, 5.0, false).len() > 1);
        assert_eq!(labels(0.0, 1e12, false)[1], "5.00e11");
    }

    #[test]
    fn thinning_keeps_means() {
        let points: Vec<(f64, f64)> = (0..2500).map(|i| (f64::from(i), 2.0 * f64::from(i))).collect();
        let (thinned, each) = thin(points.clone(), 1000);
        assert_eq!((thinned.len(), each, thinned[0]), (834, 3, (1.0, 2.0)));
        assert_eq!(thin(points[..9].to_vec(), 1000), (points[..9].to_vec(), 1));
        assert_eq!(thin(vec![], 10).0, []);
    }
}
