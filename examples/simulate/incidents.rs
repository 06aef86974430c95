//! Incidents as options: each may be given many times, and their order counts.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use libp2p_kademlia::sim::Incident;

use super::values::{share_at, span};

/// What happens to the network, and when, in the order of the command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Incidents(pub(crate) Vec<(Duration, Incident)>);

/// An incident and when it happens.
type Timed = (Duration, Incident);

/// An option: its name, its help, and what it makes of its share.
type Kind = (&'static str, &'static str, fn(f64) -> Incident);

/// The incidents that strike a share of the nodes.
const KINDS: [Kind; 5] = [
    (
        "silent",
        "A share of the nodes falls silent: connections stay, nobody answers, dials hang",
        Incident::Freeze,
    ),
    ("killed", "A share of the nodes dies: connections end, dials are refused", Incident::Kill),
    ("cut-uplinks", "A share of the nodes lose their uplinks, each by itself", Incident::CutUplinks),
    ("partition", "A share of the nodes is parted from the others", |share| Incident::Partition {
        share,
        one_way: false,
    }),
    ("one-way-partition", "The same, but what they send still arrives", |share| Incident::Partition {
        share,
        one_way: true,
    }),
];

const HEAL: &str = "heal";

impl FromArgMatches for Incidents {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut found = Vec::new();
        for name in KINDS.iter().map(|(name, _, _)| *name).chain([HEAL]) {
            let places = matches.indices_of(name).into_iter().flatten();
            found.extend(places.zip(matches.get_many::<Timed>(name).into_iter().flatten()));
        }
        found.sort_by_key(|(place, _)| *place);
        Ok(Self(found.into_iter().map(|(_, timed)| *timed).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Incidents {
    fn augment_args(command: Command) -> Command {
        let arg = |name: &'static str| Arg::new(name).long(name).action(ArgAction::Append);
        let kinds = KINDS.map(|(name, help, incident)| {
            let parse =
                move |text: &str| share_at(text).map(|(share, at)| -> Timed { (at, incident(share)) });
            arg(name).value_name("SHARE[@TIME]").value_parser(parse).help(help)
        });
        let heal = |text: &str| span(text).map(|at| -> Timed { (at, Incident::Heal) });
        let heal = arg(HEAL).value_name("TIME").value_parser(heal).help("All links work again");
        command.next_help_heading("Incidents, each any number of times").args(kinds).arg(heal)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
