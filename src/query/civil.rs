//! Dates of the UTC calendar from seconds since the epoch, as the date functions and notes need them.

/// A moment broken into the fields of the calendar and the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// From 1.
    pub month: u32,
    /// From 1.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// Sunday is 0.
    pub weekday: u32,
    /// From 1.
    pub year_day: u32,
}

pub fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

pub fn days_in_month(year: i64, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Breaks up `seconds` since the epoch. The calendar is the proleptic Gregorian one, counted in eras of 400 years
/// that begin on March 1, so that the leap day is the last of its year.
pub fn civil(seconds: i64) -> Civil {
    let days = seconds.div_euclid(86_400);
    let of_day = seconds.rem_euclid(86_400) as u32;
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let march_day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * march_day + 2) / 153;
    let day = (march_day - (153 * march_month + 2) / 5 + 1) as u32;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 } as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let before: u32 = (1..month).map(|m| days_in_month(year, m)).sum();
    Civil {
        year,
        month,
        day,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        weekday: (days + 4).rem_euclid(7) as u32,
        year_day: before + day,
    }
}

/// `2006-01-02T15:04:05Z`, with milliseconds only where there are any.
pub fn rfc3339(time_ms: i64) -> String {
    let c = civil(time_ms.div_euclid(1000));
    let date =
        format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second);
    match time_ms.rem_euclid(1000) {
        0 => format!("{date}Z"),
        ms => format!("{date}.{}Z", format!("{ms:03}").trim_end_matches('0')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_before_and_after_the_epoch() {
        let check = |seconds: i64, expect: &str, weekday: u32, year_day: u32| {
            assert_eq!(rfc3339(seconds * 1000), expect);
            let c = civil(seconds);
            assert_eq!((c.weekday, c.year_day), (weekday, year_day), "{expect}");
        };
        check(0, "1970-01-01T00:00:00Z", 4, 1);
        check(-1, "1969-12-31T23:59:59Z", 3, 365);
        check(951_782_400, "2000-02-29T00:00:00Z", 2, 60);
        check(1_136_239_445, "2006-01-02T22:04:05Z", 1, 2);
        check(-62_135_596_800, "0001-01-01T00:00:00Z", 1, 1);
        assert_eq!(rfc3339(1_500), "1970-01-01T00:00:01.5Z");
    }
}
