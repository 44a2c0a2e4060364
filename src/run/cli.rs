//! The flags of `search` and `train`: one for every setting, and those that say which run it is.

use super::config::{Configuration, Given, Key, Order, SearchConfig, TrainConfig, show};
use super::{download, folder, interrupt};
use crate::data::IMAGE_SIZES;
use crate::error::{Error, Result};
use clap::builder::{OsStr, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, ValueEnum};
use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Finds a network's cell by gradient descent on the architecture (DARTS).
///
/// Without flags: a complete search on drawn images. Flags win over the file of --config, the file over the defaults.
#[derive(Clone, Debug, Parser)]
#[command(name = "search", version)]
pub struct SearchArgs {
    /// Read settings from a TOML file, as --print-config writes it [default: none; Oche]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on with an interrupted run, given its folder, with the settings stored there [default: none; Oche]
    #[arg(long, value_name = "RUN", conflicts_with = "run.out")]
    pub resume: Option<PathBuf>,
    /// Search method by its name in tables: darts1 is --order first, darts2 is --order second [default: none; papers]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Method>,
    /// Write the settings that would be used, as a TOML file, and exit [default: off; Oche]
    #[arg(long)]
    pub print_config: bool,
    /// Get cifar10 or cifar100 from its publishers, if it is not there yet, into --data-dir, else into data [default: off; Oche]
    #[arg(long)]
    pub download: bool,
    /// The same as --graph=false
    #[arg(long, conflicts_with = "run.graph")]
    pub no_graph: bool,
    #[command(flatten)]
    pub settings: Settings<SearchConfig>,
}

/// Trains the network of a genotype from scratch.
///
/// Without flags: the cell of the newest search (else DARTS_V2) in a small network on drawn images. Flags win over the
/// file of --config, the file over --recipe.
#[derive(Clone, Debug, Parser)]
#[command(name = "train", version)]
pub struct TrainArgs {
    /// Settings to start from: cifar and imagenet are the published ones, at full size [default: small; published code]
    #[arg(long, value_name = "RECIPE", conflicts_with = "resume")]
    pub recipe: Option<Recipe>,
    /// Read settings from a TOML file, as --print-config writes it [default: none; Oche]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Go on with an interrupted run, given its folder, with the settings stored there [default: none; Oche]
    #[arg(long, value_name = "RUN", conflicts_with = "run.out")]
    pub resume: Option<PathBuf>,
    /// Write the settings that would be used, as a TOML file, and exit [default: off; Oche]
    #[arg(long)]
    pub print_config: bool,
    /// Get cifar10 or cifar100 from its publishers, if it is not there yet, into --data-dir, else into data [default: off; Oche]
    #[arg(long)]
    pub download: bool,
    /// The same as --graph=false
    #[arg(long, conflicts_with = "run.graph")]
    pub no_graph: bool,
    #[command(flatten)]
    pub settings: Settings<TrainConfig>,
}

/// Settings to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Recipe {
    Small,
    Cifar,
    Imagenet,
}

/// Names under which tables of results list the two published methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    Darts1,
    Darts2,
}

/// The settings given as flags, as text.
#[derive(Clone, Debug)]
pub struct Settings<C>(Vec<(&'static Key, String)>, PhantomData<C>);

impl<C: Configuration> Args for Settings<C> {
    fn augment_args(command: Command) -> Command {
        C::KEYS.iter().fold(command, |command, key| command.arg(arg::<C>(key)))
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<C: Configuration> FromArgMatches for Settings<C> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |key: &'static Key| Some((key, matches.get_one::<String>(key.path)?.clone()));
        Ok(Self(C::KEYS.iter().filter_map(given).collect(), PhantomData))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

fn arg<C: Configuration>(key: &'static Key) -> Arg {
    let title = C::SECTIONS.iter().find(|(section, _)| *section == key.section()).map(|(_, title)| *title);
    let arg = Arg::new(key.path)
        .long(key.flag)
        .value_name(key.value)
        .value_parser(ValueParser::string())
        .allow_negative_numbers(true) // so that -1 gets our sentence and not clap's
        .help(format!("{} [default: {}; {}]", key.help, show(key.default()), key.source))
        .help_heading(title);
    if key.default().is_bool() {
        arg.num_args(0..=1).require_equals(true).default_missing_value(OsStr::from("true"))
    } else {
        arg
    }
}

/// The flags of this process or, if there is nothing to run, its exit status: help and version are shown, a mistake
/// is told in one line.
pub fn parse<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|e| {
        if e.use_stderr() {
            complain(one_sentence(&e));
        } else {
            let _ = e.print(); // a reader that went away (search --help | head) has seen enough
        }
        ExitCode::from(e.exit_code() as u8)
    })
}

/// What `mistake` says, and its tips, without the usage that follows.
pub fn one_sentence(mistake: &clap::Error) -> String {
    let text = mistake.to_string();
    let said = text.lines().take_while(|line| !line.trim().is_empty()).map(str::trim);
    let said = said.collect::<Vec<_>>().join(" ");
    let tips = text.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let parts: Vec<&str> = std::iter::once(said.trim_start_matches("error: ")).chain(tips).collect();
    format!("{}; --help explains all flags", parts.join("; "))
}

/// The file with the settings: that of `--config`, else with `--resume` the run's own.
fn stored(config: Option<&PathBuf>, resume: Option<&PathBuf>) -> Result<Option<PathBuf>> {
    let stored = resume.map(|run| run.join(folder::CONFIG));
    if let (Some(run), Some(stored), None) = (resume, &stored, config)
        && !stored.is_file()
    {
        let what = format!("{} is not the folder of a run, it holds no {}", run.display(), folder::CONFIG);
        return Err(Error::config(
            "--resume",
            format!("{what}; name a folder such as those in {}", folder::RUNS),
        ));
    }
    Ok(config.cloned().or(stored))
}

/// Flags over `file` over `base`, changed by `finish`, which is told the keys given as flags; checked, and that no flag is
/// without effect. `O` are the settings of the program `other`, whose files are taken for these now and then.
fn settings<C: Configuration, O: Configuration>(
    base: C,
    other: &str,
    file: Option<PathBuf>,
    flags: &Settings<C>,
    finish: impl FnOnce(&mut C, &[&'static str]) -> Result<()>,
) -> Result<C> {
    let base = match &file {
        Some(file) => base.with_file(file).map_err(|e| match O::from_file(file) {
            Ok(_) => Error::data(file, format!("has the settings of `{other}`; give it to that program")),
            Err(_) => e,
        })?,
        None => base,
    };
    let mut given = Given::new();
    for (key, text) in &flags.0 {
        let flag = || format!("--{}", key.flag);
        given.push((key, key.parse(text).map_err(|what| Error::config(flag(), what))?));
    }
    let flags: Vec<_> = given.iter().map(|(key, _)| key.path).collect();
    let mut config = base.with(given)?;
    finish(&mut config, &flags)?;
    config.validate().map_err(|e| match (&file, &e) {
        (Some(file), Error::Config { key, .. }) if !flags.contains(&key.as_str()) => C::locate(file, e),
        _ => e,
    })?;
    let table = config.table();
    for key in C::KEYS.iter().filter(|key| flags.contains(&key.path)) {
        key.matters(&table, C::KEYS).map_err(|what| Error::config(format!("--{}", key.flag), what))?;
    }
    Ok(config)
}

/// The settings that `args` ask for: flags over file over defaults, checked.
///
/// With `--resume` the file is the run's own unless `--config` names another. Fails with [`Error::ConfigFile`] on
/// a file with an unknown key, a wrong type or a value out of range, with [`Error::Config`] on such a flag.
pub fn resolve(args: &SearchArgs) -> Result<SearchConfig> {
    let file = stored(args.config.as_ref(), args.resume.as_ref())?;
    settings::<_, TrainConfig>(SearchConfig::default(), "train", file, &args.settings, |config, flags| {
        if let Some(method) = args.method {
            let (name, text, order) = match method {
                Method::Darts1 => ("darts1", "first", Order::First),
                Method::Darts2 => ("darts2", "second", Order::Second),
            };
            if flags.contains(&"search.order") && config.search.order != order {
                let what = format!("{name} means --order {text}; leave one of the two out");
                return Err(Error::config("--method", what));
            }
            config.search.order = order;
        }
        config.run.graph &= !args.no_graph;
        if args.download {
            config.data.dir = download::place(&config.data.name, &config.data.dir)?;
        }
        Ok(())
    })
}

/// The settings that `args` ask for: flags over file over recipe, checked; errors as those of [`resolve`].
pub fn resolve_training(args: &TrainArgs) -> Result<TrainConfig> {
    let file = stored(args.config.as_ref(), args.resume.as_ref())?;
    let base = match args.recipe {
        None | Some(Recipe::Small) => TrainConfig::default(),
        Some(Recipe::Cifar) => TrainConfig::cifar(),
        Some(Recipe::Imagenet) => TrainConfig::imagenet(),
    };
    settings::<_, SearchConfig>(base, "search", file, &args.settings, |config, _| {
        config.run.graph &= !args.no_graph;
        if args.download {
            config.data.dir = download::place(&config.data.name, &config.data.dir)?;
        }
        Ok(())
    })
}

/// Classes of a network that is only counted.
pub const CLASSES: RangeInclusive<usize> = 1..=1_000_000;

/// That the number which `flag` gives lies in `range`.
///
/// # Errors
/// [`Error::Config`].
pub fn within(flag: &str, n: usize, range: RangeInclusive<usize>) -> Result<()> {
    let what = || format!("is {n}, must be from {} to {}", range.start(), range.end());
    if range.contains(&n) { Ok(()) } else { Err(Error::config(flag, what())) }
}

/// That `search` would take the sizes in `config`, and that they can be counted with.
///
/// # Errors
/// [`Error::Config`] under the flag that gives the size.
pub fn check_sizes(mut config: SearchConfig) -> Result<()> {
    within("--image-size", config.data.image_size, IMAGE_SIZES)?; // 0, which is as in the files, too
    config.data.crop_padding = 0;
    let flag = |path: String| {
        let key = SearchConfig::KEYS.iter().find(|key| key.path == path);
        key.map_or(path, |key| format!("--{}", key.flag))
    };
    config.validate().map_err(|e| match e {
        Error::Config { key, what } => Error::Config { key: flag(key), what },
        other => other,
    })?;
    check_countable(&config)
}

/// That a step can be counted: in 64 bits, and with the statistics of all normalisations in memory.
fn check_countable(config: &SearchConfig) -> Result<()> {
    let (space, size, batch) = (&config.space, config.data.image_size, config.search.batch_size);
    let cells = (space.channels * space.cells * space.nodes * (space.nodes + 3) / 2) as f64;
    // of each pixel, channel and channel of an edge hundreds of operations, of each channel of an edge some 300 bytes
    let pixels = (batch * size * size) as f64;
    if pixels * space.channels as f64 * cells > 2e15 || cells > 4e6 {
        let what = format!(
            "is {}, with such cells, images and batches more than can be counted; choose smaller sizes",
            space.channels
        );
        return Err(Error::config("--channels", what));
    }
    Ok(())
}

/// `1 cell`, `2 cells`.
pub fn counted(n: usize, what: &str) -> String {
    let plural = if what.ends_with('s') { "es" } else { "s" };
    format!("{n} {what}{}", if n == 1 { "" } else { plural })
}

/// Prints `text`, which is all that was asked for: a full disk is an error, a reader that has seen enough is none.
pub fn print(text: &str) -> Result<()> {
    offer(text).map(drop)
}

/// Prints a line, as [`print()`].
pub fn line(text: impl Display) -> Result<()> {
    print(&format!("{text}\n"))
}

/// Prints `text`; whether there is a reader still, to whom more can be printed.
pub fn offer(text: &str) -> Result<bool> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(Error::io("write to", Path::new("standard output"))(e)),
    }
}

/// Tells a mistake in one line, if there is somebody to tell.
pub fn complain(mistake: impl Display) {
    let _ = writeln!(std::io::stderr(), "error: {mistake}");
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Finished,
    /// A signal came; the checkpoint is written.
    Interrupted,
}

/// The exit status of a program whose run ended so; a mistake is told in one line.
pub fn status(ended: Result<Outcome>) -> ExitCode {
    match ended {
        Ok(Outcome::Finished) => ExitCode::SUCCESS,
        Ok(Outcome::Interrupted) => ExitCode::from(interrupt::EXIT_STATUS as u8),
        Err(e) => {
            complain(e);
            ExitCode::FAILURE
        }
    }
}

/// Runs `work` inside a pool of `threads`, so that small operations need not be handed over to it.
pub fn in_pool<T: Send>(threads: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|e| Error::config("run.threads", format!("cannot start the threads: {e}")))?;
    pool.install(work)
}
