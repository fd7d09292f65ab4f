//! Dates as JavaScript prints them: `Sun Nov 22 2026 06:53:01 GMT+0000 (Coordinated Universal Time)`.
//!
//! `keyFlush` and the console backend begin their text so, in local time. The name of the zone in
//! brackets is its abbreviation, but for UTC, where Node writes it out.

use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

/// The date of `seconds` since the epoch in the zone of this machine.
#[must_use]
pub fn javascript_date(seconds: u64) -> String {
    date_in(seconds, TimeZone::system())
}

/// The date of a line for syslog, as RFC 3164 has it: `Nov  2 06:53:01`, in local time.
#[must_use]
pub fn syslog_date(seconds: u64) -> String {
    zoned(seconds, TimeZone::system()).strftime("%b %e %H:%M:%S").to_string()
}

/// The date of a line of the log, as RFC 3339 has it: `2026-11-22T06:53:01.120Z`, of `ms` since the
/// epoch.
#[must_use]
pub fn log_date(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let time = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    format!("{time:.3}")
}

fn zoned(seconds: u64, zone: TimeZone) -> ZonedDateTime {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_zoned_datetime(zone)
}

fn date_in(seconds: u64, zone: TimeZone) -> String {
    let zoned = zoned(seconds, zone);
    let name = match zoned.strftime("%Z").to_string() {
        utc if utc == "UTC" => "Coordinated Universal Time".to_owned(),
        name => name,
    };
    format!("{} ({name})", zoned.strftime("%a %b %d %Y %H:%M:%S GMT%z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_javascript() {
        let text = date_in(1_795_329_181, TimeZone::UTC);
        assert_eq!(text, "Sun Nov 22 2026 06:33:01 GMT+0000 (Coordinated Universal Time)");
        let text = date_in(0, TimeZone::fixed(jiff::tz::offset(-5)));
        assert!(text.starts_with("Wed Dec 31 1969 19:00:00 GMT-0500 ("), "{text}");
    }
}
