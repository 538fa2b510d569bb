//! What a target is asked for, and what the form of its answer is.

use model::quote::quoted;

use crate::config::ScrapeConfig;
use crate::config::scrape::ScrapeProtocol;
use crate::scrape::{Error, Features};

/// The forms that are told apart when reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    OpenMetrics,
    Protobuf,
}

fn form_of(protocol: ScrapeProtocol) -> Form {
    match protocol {
        ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => Form::OpenMetrics,
        ScrapeProtocol::PrometheusProto => Form::Protobuf,
        ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Form::Text,
    }
}

/// The job's protocols. Only protobuf says when every counter began: who wants to know asks for it first, unless
/// the job says otherwise.
fn protocols(config: &ScrapeConfig, features: Features) -> &[ScrapeProtocol] {
    match features.created_zero && config.protocols == ScrapeProtocol::DEFAULT {
        true => &ScrapeProtocol::DEFAULT_PROTO_FIRST,
        false => &config.protocols,
    }
}

/// The `Accept` header: the job's protocols in their order, then anything.
pub fn accept(config: &ScrapeConfig, features: Features) -> String {
    let mut out = String::new();
    let mut weight = ScrapeProtocol::ALL.len() + 1;
    for protocol in protocols(config, features) {
        out.push_str(protocol.media_type());
        let has_escaping =
            matches!(protocol, ScrapeProtocol::PrometheusText1_0_0 | ScrapeProtocol::OpenMetricsText1_0_0);
        if has_escaping {
            out.push_str(";escaping=");
            out.push_str(config.name_escaping.text());
        }
        out.push_str(&format!(";q=0.{weight},"));
        weight -= 1;
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}

/// The form of an answer with this `Content-Type`.
pub fn form(content_type: &str, fallback: Option<ScrapeProtocol>) -> Result<Form, Error> {
    let fall_back = |otherwise: String| fallback.map(form_of).ok_or(Error::Content(otherwise));
    if content_type.is_empty() {
        return fall_back(
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for \
             target"
                .to_owned(),
        );
    }
    let Some(media_type) = media_type(content_type) else {
        let shown = quoted(content_type);
        return fall_back(format!(
            "cannot parse Content-Type {shown} and no fallback_scrape_protocol for target"
        ));
    };
    match media_type.as_str() {
        "application/openmetrics-text" => Ok(Form::OpenMetrics),
        "text/plain" => Ok(Form::Text),
        "application/vnd.google.protobuf" => Ok(Form::Protobuf),
        _ => fall_back(format!(
            "received unsupported Content-Type {} and no fallback_scrape_protocol specified for target",
            quoted(content_type)
        )),
    }
}

/// The type before the parameters, in lower case; `None` where Go's `mime.ParseMediaType` would refuse it.
fn media_type(content_type: &str) -> Option<String> {
    let mut parts = content_type.split(';');
    let media = parts.next()?.trim().to_ascii_lowercase();
    let is_token = |t: &str| {
        !t.is_empty() && t.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(&b))
    };
    let is_type = match media.split_once('/') {
        Some((kind, sub)) => is_token(kind) && is_token(sub),
        None => is_token(&media),
    };
    let has_fine_params = parts.all(|p| {
        let p = p.trim();
        p.is_empty()
            || p.split_once('=').is_some_and(|(name, value)| is_token(name.trim()) && !value.is_empty())
    });
    (is_type && has_fine_params).then_some(media)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::target::tests::config;

    #[test]
    fn protocols_are_asked_for_in_their_order() {
        let mut c = config();
        let zero = accept(&c, Features { created_zero: true, ..Features::default() });
        assert!(
            zero.starts_with("application/vnd.google.protobuf;") && zero.ends_with(",*/*;q=0.1"),
            "{zero}"
        );
        assert_eq!(
            accept(&c, Features::default()),
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
             application/openmetrics-text;version=0.0.1;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
        );
        c.protocols = vec![ScrapeProtocol::PrometheusProto, ScrapeProtocol::PrometheusText1_0_0];
        c.name_escaping = crate::config::scrape::NameEscaping::Underscores;
        assert_eq!(
            accept(&c, Features::default()),
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
             text/plain;version=1.0.0;escaping=underscores;q=0.5,*/*;q=0.4"
        );
    }

    #[test]
    fn content_types_are_taken_as_prometheus_takes_them() {
        let check = |text: &str, fallback, want: Result<Form, &str>| {
            assert_eq!(form(text, fallback), want.map_err(|e| Error::Content(e.to_owned())), "{text}");
        };
        let text = Some(ScrapeProtocol::PrometheusText0_0_4);
        check("text/plain; version=0.0.4; charset=utf-8", None, Ok(Form::Text));
        check("TEXT/plain", None, Ok(Form::Text));
        check("application/openmetrics-text; version=1.0.0", None, Ok(Form::OpenMetrics));
        check("application/vnd.google.protobuf; proto=x; encoding=delimited", None, Ok(Form::Protobuf));
        check("", text, Ok(Form::Text));
        check("text/html", text, Ok(Form::Text));
        check(
            "",
            None,
            Err(
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified \
                 for target",
            ),
        );
        check(
            "text/html",
            None,
            Err(
                "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target",
            ),
        );
        check(
            "text/plain; x",
            None,
            Err("cannot parse Content-Type \"text/plain; x\" and no fallback_scrape_protocol for target"),
        );
    }
}
