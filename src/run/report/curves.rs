//! What is drawn by epoch or by step: losses, accuracies, entropy, skip connections, time, memory.

use super::chart::{Chart, Series, thin};
use super::read::{Epoch, Run};

/// Points of a line by step.
const MOST_STEPS: usize = 1000;
/// Points of a line by epoch.
const MOST_EPOCHS: usize = 300;

/// A value of an epoch, if it is known.
pub type Value = fn(&Epoch) -> Option<f64>;

/// A chart of values by epoch: title, unit, whether they are counts and whether the axis begins at 0.
pub struct Kind {
    pub title: &'static str,
    pub unit: &'static str,
    pub whole: bool,
    pub from_zero: bool,
    /// Name, class and value of each line.
    pub lines: &'static [(&'static str, &'static str, Value)],
}

pub const LOSS: Kind = Kind {
    title: "Loss",
    unit: "mean cross entropy, nats",
    whole: false,
    from_zero: false,
    lines: &[("train", "s0", |e| Some(e.train.loss)), ("valid", "s1", |e| Some(e.valid.loss))],
};
pub const ACCURACY: Kind = Kind {
    title: "Accuracy",
    unit: "percent",
    whole: false,
    from_zero: false,
    lines: &[("train", "s0", |e| Some(e.train.accuracy)), ("valid", "s1", |e| Some(e.valid.accuracy))],
};
pub const ENTROPY: Kind = Kind {
    title: "Entropy",
    unit: "mean over edges, nats",
    whole: false,
    from_zero: false,
    lines: &[("normal cell", "s2", |e| Some(e.entropy[0])), ("reduction cell", "s3", |e| Some(e.entropy[1]))],
};
pub const SKIPS: Kind = Kind {
    title: "Skip connections",
    unit: "kept in the discretised cell",
    whole: true,
    from_zero: true,
    lines: &[
        ("normal cell", "s2", |e| Some(e.skips()[0] as f64)),
        ("reduction cell", "s3", |e| Some(e.skips()[1] as f64)),
    ],
};
pub const LEARNING_RATE: Kind = Kind {
    title: "Learning rate",
    unit: "of the weights",
    whole: false,
    from_zero: true,
    lines: &[("cosine", "s0", |e| Some(e.learning_rate))],
};
pub const EPOCH_TIME: Kind = Kind {
    title: "Time of an epoch",
    unit: "seconds, validation included",
    whole: false,
    from_zero: true,
    lines: &[("whole epoch, or since a resume within it", "s0", |e| Some(e.seconds))],
};
pub const STEP_TIME: Kind = Kind {
    title: "Time of a step",
    unit: "seconds, data included",
    whole: false,
    from_zero: true,
    lines: &[("mean of the epoch", "s0", |e| e.seconds_a_step)],
};
pub const RATE: Kind = Kind {
    title: "Speed",
    unit: "training images a second",
    whole: false,
    from_zero: true,
    lines: &[("mean of full batches", "s0", |e| e.images_a_second)],
};
pub const MEMORY: Kind = Kind {
    title: "Memory at the peak",
    unit: "MB",
    whole: false,
    from_zero: true,
    lines: &[
        ("tensors", "s0", |e| Some(e.peak_bytes as f64 / 1e6)),
        ("whole process", "s1", |e| e.peak_rss_bytes.map(|bytes| bytes as f64 / 1e6)),
    ],
};

impl Kind {
    /// The chart of one run.
    pub fn figure(&self, run: &Run) -> String {
        let series =
            self.lines.iter().map(|(name, class, value)| Series::new(*name, *class, points(run, *value)));
        let series = series.filter(|series| !series.points.is_empty()).collect();
        self.chart(self.title, series).figure(end(&run.epochs), true)
    }
    /// One of its lines, of several runs.
    pub fn compared(&self, title: &str, line: usize, runs: &[Run]) -> String {
        let (_, _, value) = self.lines[line];
        let series = runs.iter().enumerate();
        let series = series.map(|(i, run)| Series::new(&*run.name, class(i), points(run, value))).collect();
        let end = runs.iter().map(|run| end(&run.epochs)).max().unwrap_or(1);
        self.chart(title, series).figure(end, true)
    }
    fn chart<'a>(&self, title: &'a str, series: Vec<Series>) -> Chart<'a> {
        let Kind { unit, whole, from_zero, .. } = *self;
        Chart { title, unit, whole, from_zero, series }
    }
}

/// The class of a run in a comparison: eight colours, then the same dashed.
pub fn class(run: usize) -> String {
    format!("s{}{}", run % 8, if run / 8 % 2 == 1 { " dashed" } else { "" })
}

/// The losses by step.
pub fn steps(run: &Run) -> String {
    let of = |value: fn(&super::read::Step) -> f64| {
        thin(run.steps.iter().map(|step| (step.time, value(step))).collect(), MOST_STEPS)
    };
    let ((train, each), (valid, _)) = (of(|step| step.train_loss), of(|step| step.valid_loss));
    let unit = if each == 1 { "of each batch, nats".into() } else { format!("means of {each} steps, nats") };
    let last = run.steps.last().map_or(0.0, |step| step.time.ceil());
    let series = vec![
        Series::new("valid, architecture step", "thin s1", valid),
        Series::new("train, weight step", "thin s0", train),
    ];
    let chart = Chart { title: "Loss by step", unit: &unit, whole: false, from_zero: false, series };
    chart.figure((last as usize).max(end(&run.epochs)), false)
}

fn points(run: &Run, value: Value) -> Vec<(f64, f64)> {
    let each = run.epochs.len().div_ceil(MOST_EPOCHS).max(1);
    // of more epochs every other, and the last
    let last = run.epochs.len() - 1;
    let chosen = run.epochs.iter().enumerate().filter(|(i, _)| i % each == 0 || *i == last);
    chosen.filter_map(|(_, epoch)| Some((epoch.number as f64, value(epoch)?))).collect()
}

fn end(epochs: &[Epoch]) -> usize {
    epochs.last().map_or(1, |epoch| epoch.number)
}
