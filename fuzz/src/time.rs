//! The reader of times: any text, and times that are written here.

use libp2p_kademlia::fuzzing::{parse_time, wall_nanoseconds};
use libp2p_kademlia::time::{Duration, SystemTime};

const SECOND: i128 = 1_000_000_000;
const DAY: i128 = 24 * 3600 * SECOND;

/// The first nanosecond of the year 0, and the first after 9999.
const FIRST: i128 = -719_528 * DAY;
const END: i128 = 2_932_897 * DAY;

/// How much an hour or an offset of 24:60 moves a time beyond its day.
const BEYOND: i128 = 2 * DAY + 3600 * SECOND;

/// Reads the bytes as a time, which can be written and reads the same; and as the number of a time, which can be read.
pub fn time(data: &[u8]) {
    if let Some(time) = parse_time(data) {
        assert!((FIRST - BEYOND..END + BEYOND).contains(&time), "{time}");
        assert!(data.is_ascii() && data.len() >= "yyyy-mm-ddTh:mm:ssZ".len());
        if (FIRST..END).contains(&time) {
            same(time, Digits { fraction: 9, offset: 0 });
        }
    }
    let Some((number, rest)) = data.split_first_chunk::<16>() else { return };
    let time = FIRST + i128::from_le_bytes(*number).rem_euclid(END - FIRST);
    let (fraction, offset) = match rest {
        [fraction, offset, ..] => (usize::from(fraction % 24), i32::from(*offset) * 11 - 1400),
        _ => (9, 0),
    };
    same(time, Digits { fraction, offset });
    on_the_wall(time);
}

/// How a time is written: digits of its fraction, and minutes by which the clock is ahead.
#[derive(Clone, Copy)]
struct Digits {
    fraction: usize,
    offset: i32,
}

/// Writes a time, and reads it again.
fn same(time: i128, digits: Digits) {
    let shown = time + i128::from(digits.offset) * 60 * SECOND;
    if !(FIRST..END).contains(&shown) {
        return;
    }
    let text = written(shown, digits);
    // The digits that are not written are not there.
    let unit = 10i128.pow(9u32.saturating_sub(u32::try_from(digits.fraction).unwrap_or(9)));
    assert_eq!(parse_time(text.as_bytes()), Some(time - time.rem_euclid(unit)), "{text}");
    assert_eq!(parse_time(text.replace('.', ",").as_bytes()), parse_time(text.as_bytes()), "{text}");
    let (all, _) = text.split_at(text.len() - 1);
    assert_eq!(parse_time(all.as_bytes()), None, "{all}");
}

fn written(time: i128, digits: Digits) -> String {
    let (day, rest) = (time.div_euclid(DAY), time.rem_euclid(DAY));
    let (year, month, day) = date(day);
    let (second, nanos) = (rest / SECOND, rest % SECOND);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let fraction = match digits.fraction {
        0 => String::new(),
        len @ 1..=9 => format!(".{}", &format!("{nanos:09}")[..len]),
        len => format!(".{nanos:09}{}", "9".repeat(len - 9)),
    };
    let ahead = digits.offset.abs();
    let offset = match digits.offset {
        0 => "Z".to_owned(),
        1.. => format!("+{:02}:{:02}", ahead / 60, ahead % 60),
        _ => format!("-{:02}:{:02}", ahead / 60, ahead % 60),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{offset}")
}

/// Returns year, month and day of a day counted from 1970: by eras of 400 years that begin in March, unlike the reader.
fn date(day: i128) -> (i128, i128, i128) {
    let from_march = day + 719_468;
    let (era, of_era) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + later, month, day)
}

/// A wall clock that shows a time is that many nanoseconds from 1970.
fn on_the_wall(time: i128) {
    let duration = |time: i128| {
        let (seconds, nanos) = (u64::try_from(time / SECOND), u32::try_from(time % SECOND));
        Duration::new(seconds.expect("years"), nanos.expect("less than a second"))
    };
    let wall = if time < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(duration(-time))
    } else {
        SystemTime::UNIX_EPOCH.checked_add(duration(time))
    };
    // Not every system has all of them.
    assert!(wall.is_none_or(|wall| (wall_nanoseconds(wall) - time).abs() < 100));
}
