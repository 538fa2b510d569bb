//! As much of a URL as the configuration must know: its parts, and how a password in it is hidden.

/// The parts of a URL that checks ask for; an absent one is empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parts<'u> {
    pub(super) scheme: &'u str,
    pub(super) host: &'u str,
}

/// Errors are worded as Go's `url.Parse` words them.
pub(super) fn parts(url: &str) -> Result<Parts<'_>, String> {
    let refuse = |why: &str| Err(format!("parse {}: {why}", model::quote::quoted(url)));
    if url.bytes().any(|b| b < b' ' || b == 0x7f) {
        return refuse("net/url: invalid control character in URL");
    }
    let (scheme, rest) = match url.find(|c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c))) {
        Some(0) if url.starts_with(':') => return refuse("missing protocol scheme"),
        Some(i) if url[i..].starts_with(':') && url.as_bytes()[0].is_ascii_alphabetic() => {
            (&url[..i], &url[i + 1..])
        }
        _ => ("", url),
    };
    if scheme.is_empty() && !url.starts_with('/') {
        let first = url.split('/').next().unwrap_or("");
        if first.contains(':') {
            return refuse("first path segment in URL cannot contain colon");
        }
    }
    let host = match rest.strip_prefix("//") {
        Some(rest) => {
            let authority = rest.split(['/', '?', '#']).next().unwrap_or("");
            authority.rsplit('@').next().unwrap_or("")
        }
        None => "",
    };
    if let Some(port) = host.rsplit_once(':').map(|(_, p)| p).filter(|p| !p.contains(']'))
        && !port.bytes().all(|b| b.is_ascii_digit())
    {
        return refuse(&format!("invalid port {} after host", model::quote::quoted(&format!(":{port}"))));
    }
    Ok(Parts { scheme, host })
}

pub(super) fn check(url: &str) -> Result<(), String> {
    parts(url).map(|_| ())
}

/// The URL with a password in it replaced, as Go's `URL.Redacted`.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let name = user.split(':').next().unwrap_or("");
            format!("{scheme}://{name}:xxxxx@{host}{path}")
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_refusals_are_those_of_go() {
        assert_eq!(parts("http://u:p@host:9/x"), Ok(Parts { scheme: "http", host: "host:9" }));
        assert_eq!(parts("localhost:9090"), Ok(Parts { scheme: "localhost", host: "" }));
        assert_eq!(parts("https:///x").map(|p| p.host.len()), Ok(0));
        assert_eq!(parts("://invalid"), Err("parse \"://invalid\": missing protocol scheme".to_owned()));
        assert!(parts("http://h:x/").is_err() && parts("1.2.3.4:80").is_err());
        assert_eq!(redacted("http://u:p@h/x"), "http://u:xxxxx@h/x");
        assert_eq!(redacted("http://h/x"), "http://h/x");
    }
}
