//! Which protocol a request speaks: its content type and encoding, judged in Prometheus's words.

/// Bodies as they come, and what they unpack to.
pub const BODY_BYTES_MAX: usize = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    V1,
    V2,
}

impl Protocol {
    pub const ALL: [Protocol; 2] = [Protocol::V1, Protocol::V2];

    pub fn message(self) -> &'static str {
        match self {
            Protocol::V1 => "prometheus.WriteRequest",
            Protocol::V2 => "io.prometheus.write.v2.Request",
        }
    }

    pub fn from_message(name: &str) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|p| p.message() == name)
    }
}

const MEDIA: &str = "application/x-protobuf";

/// The protocol of a request with these headers; an error is the text of a 415.
pub fn negotiate(
    content_type: Option<&str>,
    encoding: Option<&str>,
    accepted: &[Protocol],
) -> Result<Protocol, String> {
    let protocol = protocol_of(content_type.filter(|t| !t.is_empty()).unwrap_or(MEDIA).trim())?;
    if !accepted.contains(&protocol) {
        let names: Vec<&str> = accepted.iter().map(|p| p.message()).collect();
        return Err(format!(
            "{} protobuf message is not accepted by this server; only accepts {}",
            protocol.message(),
            names.join(", ")
        ));
    }
    match encoding {
        None | Some("") => Ok(protocol),
        Some(e) if e.eq_ignore_ascii_case("snappy") => Ok(protocol),
        Some(e) => Err(format!(
            "{e} encoding (compression) is not accepted by this server; only snappy is acceptable"
        )),
    }
}

fn protocol_of(content_type: &str) -> Result<Protocol, String> {
    let mut parts = content_type.split(';');
    if parts.next() != Some(MEDIA) {
        return Err(format!("expected {MEDIA} as the first (media) part, got {content_type} content-type"));
    }
    for part in parts {
        let pair: Vec<&str> = part.split('=').collect();
        let [name, value] = pair[..] else {
            return Err(format!(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, \
                 got {part} in {content_type} content-type"
            ));
        };
        if name == "proto" {
            return Protocol::from_message(value).ok_or_else(|| {
                format!(
                    "got {content_type} content type; unknown type for remote write protobuf message {value}, \
                     supported: {}, {}",
                    Protocol::V1.message(),
                    Protocol::V2.message()
                )
            });
        }
    }
    Ok(Protocol::V1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_judged_in_prometheus_words() {
        let check = |content_type: Option<&str>, encoding: Option<&str>, expect: Result<Protocol, &str>| {
            let got = negotiate(content_type, encoding, &Protocol::ALL);
            assert_eq!(got, expect.map_err(str::to_owned), "{content_type:?}");
        };
        check(None, None, Ok(Protocol::V1));
        check(Some("application/x-protobuf"), Some("snappy"), Ok(Protocol::V1));
        check(Some("application/x-protobuf;proto=prometheus.WriteRequest"), Some("Snappy"), Ok(Protocol::V1));
        check(Some("application/x-protobuf;proto=io.prometheus.write.v2.Request"), None, Ok(Protocol::V2));
        check(Some("application/x-protobuf;charset=x"), None, Ok(Protocol::V1));
        check(
            Some("text/plain"),
            None,
            Err("expected application/x-protobuf as the first (media) part, got text/plain content-type"),
        );
        check(
            Some("application/x-protobuf;x"),
            None,
            Err(
                "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got x in application/x-protobuf;x content-type",
            ),
        );
        check(
            Some("application/x-protobuf;proto=x.Y"),
            None,
            Err(
                "got application/x-protobuf;proto=x.Y content type; unknown type for remote write protobuf message x.Y, supported: prometheus.WriteRequest, io.prometheus.write.v2.Request",
            ),
        );
        check(
            None,
            Some("zstd"),
            Err("zstd encoding (compression) is not accepted by this server; only snappy is acceptable"),
        );
        let only_v2 = negotiate(None, None, &[Protocol::V2]);
        let expect = "prometheus.WriteRequest protobuf message is not accepted by this server; only accepts io.prometheus.write.v2.Request";
        assert_eq!(only_v2, Err(expect.to_owned()));
    }
}
