//! What one call may cost: counted, not timed.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::message::SentRecord;
use crate::record::{Quorum, Record, RecordKey};
use crate::validate::{InvalidRecord, Validator};

const WALL: SystemTime = SystemTime::UNIX_EPOCH;

/// Takes every value, and counts how often it is asked to.
struct Counting(Arc<AtomicUsize>);

impl Validator for Counting {
    fn validate(&self, _: SystemTime, _: &RecordKey, _: &[u8]) -> Result<(), InvalidRecord> {
        self.0.fetch_add(1, Relaxed);
        Ok(())
    }

    fn compare(&self, _: &RecordKey, a: &[u8], b: &[u8]) -> Ordering {
        a.cmp(b)
    }
}

#[test]
fn a_late_answer_is_not_validated() {
    let validated = Arc::new(AtomicUsize::new(0));
    let config = quiet().with_validator("n", Counting(validated.clone()));
    let (mut dht, now) = (new_dht(0, config), start());
    admit(&mut dht, now, 1..=5);
    let key = RecordKey::new(b"/n/key");
    let query = dht.get_record(now, key.clone(), Some(Quorum::One));
    let requests = asked(&outputs(&mut dht));
    assert!(requests.len() > 1, "several are asked at once: {requests:?}");
    for (n, (_, id, _)) in requests.into_iter().enumerate() {
        let record = Some(SentRecord::of(Record::new(key.clone(), "value"), WALL));
        let response = Response::GetValue { key: Some(key.clone()), record, closer_peers: vec![] };
        dht.handle_input(now, Input::ResponseReceived { id, response });
        assert!(dht.query(query).is_none(), "the first answer is enough");
        assert_eq!(validated.load(Relaxed), 1, "answer {n}");
    }
}
