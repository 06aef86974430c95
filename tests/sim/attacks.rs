//! Under attack, and what is done against it: whom it keeps out, and whom it must not.

use libp2p_kademlia::sim::{Hosting, Links, RoundTrip, Scenario, Start, World};
use libp2p_kademlia::{Config, IpDiversity};

use super::{MS, SECOND};

/// Sixteen servers of one application that join one after another.
fn sixteen(hosting: Hosting, config: Config) -> World {
    let mut world = World::new(&Scenario {
        nodes: 16,
        hosting,
        config,
        links: Links { rtt: RoundTrip::Constant(20 * MS), ..Links::default() },
        start: Start::Join { every: SECOND, seeds: 1 },
        ..Scenario::default()
    });
    world.run_for(120 * SECOND);
    for n in 0..16 {
        world.look_up(n, format!("{n}").as_bytes());
    }
    assert!(world.run_until_answered(30 * SECOND));
    world.check().unwrap();
    world
}

/// Returns the fewest of the others that any has in its table, and whether each has found all of them.
fn fewest(world: &World) -> (usize, bool) {
    let tables = (0..16).map(|n| world.node(n).unwrap().table().len()).min();
    let has_found_all = world.outcomes().iter().all(|outcome| outcome.success && outcome.recall >= 1.0);
    (tables.unwrap(), has_found_all && world.outcomes().len() == 16)
}

#[test]
fn servers_of_one_application_find_each_other_wherever_they_are() {
    let own = || Config::for_protocol("/my-application/kad/1.0.0").unwrap();
    assert_eq!(own().ip_diversity(), IpDiversity::Soft);
    for hosting in [
        Hosting::Spread,
        Hosting::OneNetwork,
        Hosting::OneAddress,
        Hosting::OneV6Network,
        Hosting::OneRelay,
        Hosting::RelaysOfOneHost,
        Hosting::OneDomain,
    ] {
        assert_eq!(fewest(&sixteen(hosting, own())), (15, true), "{hosting:?}");
    }
    // In the public network they do not, unless that is asked for.
    let (in_table, _) = fewest(&sixteen(Hosting::OneNetwork, Config::default()));
    assert!(in_table <= 3, "{in_table}");
    let off = Config::default().with_ip_diversity(IpDiversity::Off);
    assert_eq!(fewest(&sixteen(Hosting::OneNetwork, off)), (15, true));
}
