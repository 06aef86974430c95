//! Puts, gets, announcements and searches as workloads of a scenario.

use std::collections::BTreeSet;

use libp2p_kademlia::sim::{
    Incident, Links, Load, Lookups, Reached, RecordQuery, Records, Report, RoundTrip, Scenario,
};
use libp2p_kademlia::{Quorum, RecordKey};

use super::{MS, NOW, SECOND, run};

fn loads() -> Records {
    let load = |count| Load { count, ..Load::default() };
    Records { puts: load(30), gets: load(45), provides: load(20), searches: load(25), ..Records::default() }
}

fn asked(records: Records) -> Scenario {
    Scenario {
        nodes: 200,
        links: Links { rtt: RoundTrip::Constant(100 * MS), warm: true, ..Links::default() },
        settle: NOW,
        lookups: Lookups { count: 0, ..Lookups::default() },
        records,
        ..Scenario::default()
    }
}

fn keys(report: &Report, kind: RecordQuery) -> BTreeSet<&RecordKey> {
    report.records.iter().filter(|outcome| outcome.kind == kind).map(|outcome| &outcome.key).collect()
}

#[test]
fn what_is_put_and_provided_is_found() {
    use RecordQuery::{Get, Provide, Put, Search};
    let report = run(&asked(loads()));
    for (kind, count) in [(Put, 30), (Get, 45), (Provide, 20), (Search, 25)] {
        let all = report.summary_of(kind);
        assert_eq!((all.count, all.success), (count, 1.0), "{kind:?}: {report}");
        assert!(all.took[0] <= all.took[1] && all.took[1] <= all.took[2] && all.requests >= 1.0, "{all:?}");
    }
    assert_eq!(report.summary_of(Put).reached, 20.0, "{report}");
    assert!(report.summary_of(Search).first[0] <= 200 * MS, "{report}");
    // Each put has a key of its own, and gets take turns among all.
    assert_eq!(keys(&report, Put).len(), 30);
    assert_eq!(keys(&report, Get), keys(&report, Put));
    assert_eq!(keys(&report, Search), keys(&report, Provide));
    for outcome in &report.records {
        assert!(outcome.began + outcome.took <= report.setup_took + report.took);
        if let Reached::Got(value) = &outcome.reached {
            assert_eq!(value.len(), 256);
        }
    }
    let table = report.to_string();
    for name in ["acknowledged", "found the value", "told enough", "found the provider"] {
        let row = table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{table}"));
        assert_eq!(row.split_whitespace().last(), Some("1.0000"));
    }
    assert!(!table.contains("recall"), "{table}");
    assert_eq!(run(&asked(loads())), report);
}

/// While all uplinks are cut nothing is acknowledged, and with so many dead not everything is found; the report says so.
#[test]
fn what_is_not_acknowledged_or_found_is_told() {
    let records = Records { put_quorum: Quorum::All, ..loads() };
    let incidents = vec![
        (SECOND, Incident::CutUplinks(1.0)),
        (11 * SECOND, Incident::Heal),
        (11 * SECOND, Incident::Kill(0.95)),
    ];
    let report = run(&Scenario { incidents, seed: 5, ..asked(records) });
    let all = report.summary_of(RecordQuery::Put);
    assert!(all.success > 0.1 && all.success < 0.9, "{report}");
    let gets = report.summary_of(RecordQuery::Get);
    assert!(gets.count > 0 && gets.success < 0.9, "{report}");
    let failed = report.records.iter().filter(|outcome| matches!(outcome.reached, Reached::Failed(_)));
    assert!(failed.clone().count() > 0 && failed.clone().all(|outcome| !outcome.success));
    // Only what was acknowledged is asked for.
    let acknowledged: BTreeSet<_> = report
        .records
        .iter()
        .filter(|outcome| outcome.kind == RecordQuery::Put && outcome.success)
        .map(|outcome| &outcome.key)
        .collect();
    assert!(keys(&report, RecordQuery::Get).is_subset(&acknowledged));
}

#[test]
fn a_value_that_no_store_takes_is_refused_at_once() {
    let records = Records { value_bytes: 100_000, gets: Load::default(), ..loads() };
    let report = run(&asked(records));
    let puts: Vec<_> = report.records.iter().filter(|outcome| outcome.kind == RecordQuery::Put).collect();
    assert_eq!(puts.len(), 30);
    assert!(puts.iter().all(|put| put.took == NOW && matches!(put.reached, Reached::Failed(_))), "{puts:?}");
}
