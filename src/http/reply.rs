//! An answer of our own, as bytes.

use model::Timestamp;
use model::civil::civil_from_days;

use crate::http::request::is_header_safe;

/// What a shard answers.
#[derive(Clone, Debug)]
pub struct Response {
    status: u16,
    headers: String,
    pub body: String,
}

impl Response {
    pub fn new(status: u16) -> Response {
        Response { status, headers: String::new(), body: String::new() }
    }

    /// Adds a header; one that would be two lines is left out. Names are written small, as the front writes them.
    pub fn header(&mut self, name: &str, value: impl ToString) {
        let value = value.to_string();
        if is_header_safe(name) && is_header_safe(&value) {
            self.headers.push_str(&name.to_ascii_lowercase());
            self.headers.push_str(": ");
            self.headers.push_str(&value);
            self.headers.push_str("\r\n");
        }
    }

    /// `now` is the wall's time. A 204 has no body and no length.
    pub fn to_bytes(&self, now: Timestamp) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} {}\r\n{}", self.status, reason(self.status), self.headers);
        if self.status != 204 {
            out.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        out.push_str(&format!("date: {}\r\n\r\n", http_date(now)));
        if self.status != 204 {
            out.push_str(&self.body);
        }
        out.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Answer",
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
fn http_date(now: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = now.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil_from_days(days);
    let name = DAYS[days.rem_euclid(7) as usize];
    let month = MONTHS[(month as usize - 1) % 12];
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_http() {
        assert_eq!(http_date(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(784_111_777_999), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(http_date(1_709_164_800_000), "Thu, 29 Feb 2024 00:00:00 GMT");
    }

    #[test]
    fn answers_are_lines_and_a_body() {
        let mut response = Response::new(400);
        response.header("X-A", "b");
        response.header("X-Evil", "a\r\nb: c");
        response.body = "no\n".to_owned();
        let expect = "HTTP/1.1 400 Bad Request\r\nx-a: b\r\ncontent-length: 3\r\n\
                      date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nno\n";
        assert_eq!(String::from_utf8(response.to_bytes(0)).unwrap(), expect);
        let bare = "HTTP/1.1 204 No Content\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
        assert_eq!(String::from_utf8(Response::new(204).to_bytes(0)).unwrap(), bare);
    }
}
