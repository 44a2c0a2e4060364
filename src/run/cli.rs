//! The flags of `search`: one for every setting, and those that say which run it is.

use super::config::keys::{KEYS, Key, SECTIONS, show};
use super::config::{Given, Order, SearchConfig, file};
use super::folder;
use crate::error::{Error, Result};
use clap::builder::{OsStr, ValueParser};
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, Parser, ValueEnum};
use std::path::PathBuf;
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
    /// The same as --graph=false
    #[arg(long, conflicts_with = "run.graph")]
    pub no_graph: bool,
    #[command(flatten)]
    pub settings: Settings,
}

/// Names under which tables of results list the two published methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    Darts1,
    Darts2,
}

/// The settings given as flags, as text.
#[derive(Clone, Debug, Default)]
pub struct Settings(Vec<(&'static Key, String)>);

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| command.arg(arg(key)))
    }
    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = KEYS.iter().filter_map(|key| Some((key, matches.get_one::<String>(key.path)?.clone())));
        Ok(Self(given.collect()))
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.0.extend(Self::from_arg_matches(matches)?.0);
        Ok(())
    }
}

fn arg(key: &'static Key) -> Arg {
    let title = SECTIONS.iter().find(|(section, _)| *section == key.section()).map(|(_, title)| *title);
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
pub fn parse() -> Result<SearchArgs, ExitCode> {
    SearchArgs::try_parse().map_err(|e| {
        if e.use_stderr() {
            eprintln!("error: {}", one_sentence(&e));
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

/// The settings that `args` ask for: flags over file over defaults, checked.
///
/// With `--resume` the file is the run's own unless `--config` names another. Fails with [`Error::ConfigFile`] on
/// a file with an unknown key, a wrong type or a value out of range, with [`Error::Config`] on such a flag.
pub fn resolve(args: &SearchArgs) -> Result<SearchConfig> {
    let stored = args.resume.as_ref().map(|run| run.join(folder::CONFIG));
    if let (Some(run), Some(stored), None) = (&args.resume, &stored, &args.config)
        && !stored.is_file()
    {
        let what = format!("{} is not the folder of a run, it holds no {}", run.display(), folder::CONFIG);
        return Err(Error::config(
            "--resume",
            format!("{what}; name a folder such as those in {}", folder::RUNS),
        ));
    }
    let file = args.config.as_ref().or(stored.as_ref());
    let base = match file {
        Some(file) => SearchConfig::from_file(file)?,
        None => SearchConfig::default(),
    };
    let mut given = Given::new();
    for (key, text) in &args.settings.0 {
        let flag = || format!("--{}", key.flag);
        given.push((key, key.parse(text).map_err(|what| Error::config(flag(), what))?));
    }
    let flags: Vec<_> = given.iter().map(|(key, _)| key.path).collect();
    let mut config = base.with(given)?;
    if let Some(method) = args.method {
        let order = if method == Method::Darts1 { Order::First } else { Order::Second };
        if flags.contains(&"search.order") && config.search.order != order {
            let (name, order) =
                if method == Method::Darts1 { ("darts1", "first") } else { ("darts2", "second") };
            return Err(Error::config(
                "--method",
                format!("{name} means --order {order}; leave one of the two out"),
            ));
        }
        config.search.order = order;
    }
    config.run.graph &= !args.no_graph;
    config.validate().map_err(|e| match (file, &e) {
        (Some(file), Error::Config { key, .. }) if !flags.contains(&key.as_str()) => file::locate(file, e),
        _ => e,
    })?;
    Ok(config)
}
