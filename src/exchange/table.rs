//! Columns, times, spans of time and sizes, as promtool prints them.

use model::civil::format_rfc3339;

/// Least width of a column that is not the last.
const COLUMN_WIDTH_MIN: usize = 13;
const COLUMN_GAP: usize = 2;

/// Rows of cells to lines: columns are padded with blanks, the last one is not.
pub fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|r| r.len() > column + 1).map(|r| r[column].chars().count());
        cells.map(|w| w + COLUMN_GAP).max().unwrap_or(0).max(COLUMN_WIDTH_MIN)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                let blanks = widths[column].saturating_sub(cell.chars().count());
                out.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        out.push('\n');
    }
    out
}

/// A time as Go prints it: `2023-11-14 22:13:20 +0000 UTC`.
pub fn time_text(ms: i64) -> String {
    // Go divides toward zero.
    let text = format_rfc3339(ms / 1000, 0);
    format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " "))
}

/// A span of time as Go prints it: `1h59m59.999s`, `15.501s`, `1ms`, `0s`.
pub fn duration_text(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    if ms == 0 {
        return "0s".to_owned();
    }
    if ms < 1000 {
        return format!("{sign}{ms}ms");
    }
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let fraction = format!(".{rest:03}");
    let fraction = if rest == 0 { "" } else { fraction.trim_end_matches('0') };
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let tail = format!("{}{fraction}s", seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{sign}{tail}"),
        (0, m) => format!("{sign}{m}m{tail}"),
        (h, m) => format!("{sign}{h}h{m}m{tail}"),
    }
}

/// A size in all its units: `1MiB3KiB5B`.
pub fn bytes_text(bytes: u64) -> String {
    let mut parts = Vec::new();
    let mut rest = bytes;
    for (i, unit) in ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().enumerate() {
        if !rest.is_multiple_of(1024) || (i == 0 && rest == 0) {
            parts.push(format!("{}{unit}", rest % 1024));
        }
        rest /= 1024;
        if rest == 0 {
            break;
        }
    }
    parts.reverse();
    parts.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_go() {
        for (ms, want) in [
            (0, "0s"),
            (1, "1ms"),
            (15_501, "15.501s"),
            (60_000, "1m0s"),
            (7_199_999, "1h59m59.999s"),
            (7_200_000, "2h0m0s"),
            (-1500, "-1.5s"),
        ] {
            assert_eq!(duration_text(ms), want);
        }
        for (bytes, want) in [(0, "0B"), (738, "738B"), (1024, "1KiB"), (1_051_653, "1MiB3KiB5B")] {
            assert_eq!(bytes_text(bytes), want);
        }
        assert_eq!(time_text(1_700_000_000_000), "2023-11-14 22:13:20 +0000 UTC");
    }

    #[test]
    fn the_last_column_is_not_padded() {
        let rows =
            [vec!["A".to_owned(), "B".to_owned()], vec!["longer than that".to_owned(), "x".to_owned()]];
        assert_eq!(aligned(&rows), "A                 B\nlonger than that  x\n");
    }
}
