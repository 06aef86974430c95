//! Groups of nodes with a configuration of their own, as one option each.

use clap::{Args as _, Command, FromArgMatches as _};
use libp2p_kademlia::sim::{Group, Size};

use super::node::Node;
use super::values::{nodes, share};

/// A group as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) group: Group,
    /// Whether no peer enters the table of such a node by itself.
    pub(crate) inserts_manually: bool,
}

/// Reads `share=0.3,bucket-size=8,ip-diversity=off` or `nodes=5,..`: the size of a group, and options of a node.
pub(crate) fn group(text: &str) -> Result<Written, String> {
    let mut parts = text.split(',');
    let size = match parts.next().unwrap_or_default().split_once('=') {
        Some(("share", text)) => Size::Share(share(text)?),
        Some(("nodes", text)) => Size::Nodes(nodes(text)?),
        Some(_) | None => return Err("write share=SHARE or nodes=NODES first".to_owned()),
    };
    let node = node(parts)?;
    let group = Group { size, config: node.config()? };
    Ok(Written { group, inserts_manually: node.inserts_manually() })
}

fn node<'a>(options: impl Iterator<Item = &'a str>) -> Result<Node, String> {
    let words = options.flat_map(|option| {
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        std::iter::once(format!("--{name}")).chain(value.map(str::to_owned))
    });
    let command = Node::augment_args(Command::new("group")).args_override_self(true).disable_help_flag(true);
    let line = std::iter::once("group".to_owned()).chain(words);
    let node = command.try_get_matches_from(line).and_then(|found| Node::from_arg_matches(&found));
    node.map_err(|error| {
        // Its first paragraph says what is wrong; the others how to ask for help.
        let text = error.to_string();
        text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}
