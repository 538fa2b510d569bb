//! Calendar functions of seconds since the epoch, in UTC by the Gregorian calendar.
//!
//! Seconds far out of reach of any clock wrap around as they do in Go, so that even nonsense has the reference's
//! answer.

/// Functions of a timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DateFunction {
    Minute,
    Hour,
    DayOfWeek,
    DayOfMonth,
    DayOfYear,
    DaysInMonth,
    Month,
    Year,
}

const DAY_SECONDS: u64 = 86_400;
/// Days are counted from March 1 of this many years before year 0, so that they are never negative; a multiple of
/// 400, the calendar's period.
const YEARS_BEFORE: u64 = 292_277_022_400;
/// Days from that March 1 to January 1 of year 1, and from there to the epoch.
const DAYS_TO_EPOCH: u64 = YEARS_BEFORE / 400 * 146_097 + 306 + 719_162;
/// Days from March 1 through the end of December.
const MARCH_THROUGH_DECEMBER: u64 = 306;

impl DateFunction {
    /// Of a float in seconds, truncated.
    pub fn of_value(self, seconds: f64) -> f64 {
        // Out of range (or not a number) is the least integer, as a processor of the x86 family converts it.
        let in_range = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&seconds);
        self.of_seconds(if in_range { seconds as i64 } else { i64::MIN })
    }

    /// Of a step's time in milliseconds.
    pub fn of_millis(self, millis: i64) -> f64 {
        self.of_seconds(millis / 1000)
    }

    pub fn of_seconds(self, seconds: i64) -> f64 {
        let absolute = (seconds as u64).wrapping_add(DAYS_TO_EPOCH.wrapping_mul(DAY_SECONDS));
        let days = absolute / DAY_SECONDS;
        match self {
            DateFunction::Minute => (absolute % 3600 / 60) as f64,
            DateFunction::Hour => (absolute % DAY_SECONDS / 3600) as f64,
            // The first day counted was a Wednesday.
            DateFunction::DayOfWeek => ((days + 3) % 7) as f64,
            DateFunction::DayOfMonth => Date::of(days).day as f64,
            DateFunction::DayOfYear => Date::of(days).day_of_year as f64,
            DateFunction::DaysInMonth => Date::of(days).days_in_month() as f64,
            DateFunction::Month => Date::of(days).month as f64,
            DateFunction::Year => Date::of(days).year as f64,
        }
    }
}

struct Date {
    year: i64,
    month: u64,
    day: u64,
    day_of_year: u64,
    leap: bool,
}

impl Date {
    /// Counts years from March on, so that the leap day is a year's last.
    fn of(days: u64) -> Date {
        let quarter_days = 4 * days + 3;
        let century = quarter_days / 146_097;
        let in_century = (quarter_days % 146_097) | 3;
        let year_in_century = in_century / 1461;
        let day_in_year = in_century % 1461 / 4;
        let month_scaled = 2141 * day_in_year + 197_913;
        let (month, day) = (month_scaled >> 16, (month_scaled & 0xffff) / 2141 + 1);
        let new_year = day_in_year >= MARCH_THROUGH_DECEMBER;
        let leap = year_in_century.is_multiple_of(4) && (year_in_century != 0 || century.is_multiple_of(4));
        let day_of_year = if new_year {
            day_in_year - MARCH_THROUGH_DECEMBER + 1
        } else {
            day_in_year + 31 + 28 + u64::from(leap) + 1
        };
        let year =
            (century * 100).wrapping_sub(YEARS_BEFORE) as i64 + year_in_century as i64 + i64::from(new_year);
        let month = if new_year { month - 12 } else { month };
        Date { year, month, day, day_of_year, leap }
    }

    fn days_in_month(&self) -> u64 {
        match self.month {
            4 | 6 | 9 | 11 => 30,
            // January and February belong to the year counted before; ask the calendar's own year.
            2 => 28 + u64::from(self.calendar_leap()),
            _ => 31,
        }
    }

    fn calendar_leap(&self) -> bool {
        if self.month > 2 {
            return self.leap;
        }
        let (quarter, century, age) = (self.year % 4 == 0, self.year % 100 == 0, self.year % 400 == 0);
        quarter && (!century || age)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Minute, hour, weekday, day, day of year, days in month, month, year.
    #[track_caller]
    fn check(seconds: f64, expect: [f64; 8]) {
        use DateFunction::*;
        let all = [Minute, Hour, DayOfWeek, DayOfMonth, DayOfYear, DaysInMonth, Month, Year];
        assert_eq!(all.map(|f| f.of_value(seconds)), expect, "at {seconds}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        check(0.0, [0.0, 0.0, 4.0, 1.0, 1.0, 31.0, 1.0, 1970.0]);
        check(-1.0, [59.0, 23.0, 3.0, 31.0, 365.0, 31.0, 12.0, 1969.0]);
        check(1_136_239_445.0, [4.0, 22.0, 1.0, 2.0, 2.0, 31.0, 1.0, 2006.0]);
        check(1_454_284_800.0, [0.0, 0.0, 1.0, 1.0, 32.0, 29.0, 2.0, 2016.0]);
        check(1_485_907_200.0, [0.0, 0.0, 3.0, 1.0, 32.0, 28.0, 2.0, 2017.0]);
        check(951_782_400.0, [0.0, 0.0, 2.0, 29.0, 60.0, 29.0, 2.0, 2000.0]);
        check(4_107_456_000.0, [0.0, 0.0, 0.0, 28.0, 59.0, 28.0, 2.0, 2100.0]);
        check(4_107_542_400.0, [0.0, 0.0, 1.0, 1.0, 60.0, 31.0, 3.0, 2100.0]);
        check(-62_135_596_800.0, [0.0, 0.0, 1.0, 1.0, 1.0, 31.0, 1.0, 1.0]);
    }

    #[test]
    fn every_day_of_four_centuries_follows_the_one_before() {
        let length = |y: i64, m: u64| match m {
            2 if y % 4 == 0 && (y % 100 != 0 || y % 400 == 0) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let (mut year, mut month, mut day, mut day_of_year) = (1900i64, 1u64, 1u64, 1u64);
        for days in -25_567i64..121_000 {
            let date = Date::of(DAYS_TO_EPOCH.wrapping_add(days as u64));
            assert_eq!((date.year, date.month, date.day), (year, month, day));
            assert_eq!((date.day_of_year, date.days_in_month()), (day_of_year, length(year, month)));
            (day, day_of_year) = (day + 1, day_of_year + 1);
            if day > length(year, month) {
                (month, day) = (month + 1, 1);
            }
            if month > 12 {
                (year, month, day_of_year) = (year + 1, 1, 1);
            }
        }
    }

    #[test]
    fn nonsense_has_an_answer() {
        for f in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, f64::MAX] {
            assert!(DateFunction::Year.of_value(f).is_finite());
            assert!((0.0..7.0).contains(&DateFunction::DayOfWeek.of_value(f)));
            assert!((28.0..=31.0).contains(&DateFunction::DaysInMonth.of_value(f)));
        }
    }
}
