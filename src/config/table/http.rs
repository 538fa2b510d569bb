//! The keys that everything has that speaks HTTP: credentials, TLS, proxies, headers.

use crate::config::error::{Check, Problem};
use crate::config::schema::{Block, Field, Kind, Schema, Value, key, unchecked};

/// Inline keys of an HTTP client.
pub(in crate::config) static HTTP: &[Field] = &[
    key("basic_auth", Kind::Optional(&BASIC_AUTH)),
    key("authorization", Kind::Optional(&AUTHORIZATION)),
    key("oauth2", Kind::Optional(&OAUTH2)),
    key("bearer_token", Kind::Secret),
    key("bearer_token_file", Kind::Path),
    key("tls_config", Kind::Section(&TLS)),
    key("follow_redirects", Kind::Bool).always().or("true"),
    key("enable_http2", Kind::Bool).always().or("true"),
    key("proxy_url", Kind::Url),
    key("no_proxy", Kind::Text),
    key("proxy_from_environment", Kind::Bool),
    key("proxy_connect_header", Kind::SecretMap),
    key("http_headers", Kind::SectionMap(&HEADER)),
];

/// The same for remote write, where HTTP/2 is off unless asked for.
pub(in crate::config) static HTTP_REMOTE_WRITE: &[Field] = &[
    key("basic_auth", Kind::Optional(&BASIC_AUTH)),
    key("authorization", Kind::Optional(&AUTHORIZATION)),
    key("oauth2", Kind::Optional(&OAUTH2)),
    key("bearer_token", Kind::Secret),
    key("bearer_token_file", Kind::Path),
    key("tls_config", Kind::Section(&TLS)),
    key("follow_redirects", Kind::Bool).always().or("true"),
    key("enable_http2", Kind::Bool).always(),
    key("proxy_url", Kind::Url),
    key("no_proxy", Kind::Text),
    key("proxy_from_environment", Kind::Bool),
    key("proxy_connect_header", Kind::SecretMap),
    key("http_headers", Kind::SectionMap(&HEADER)),
];

pub(in crate::config) static TLS: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("ca", Kind::Text),
        key("cert", Kind::Text),
        key("key", Kind::Secret),
        key("ca_file", Kind::Path),
        key("cert_file", Kind::Path),
        key("key_file", Kind::Path),
        key("ca_ref", Kind::Text),
        key("cert_ref", Kind::Text),
        key("key_ref", Kind::Text),
        key("server_name", Kind::Text),
        key("insecure_skip_verify", Kind::Bool).always(),
        key("min_version", Kind::Text),
        key("max_version", Kind::Text),
    ]],
    check: check_tls,
};

static BASIC_AUTH: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("username", Kind::Text),
        key("username_file", Kind::Path),
        key("username_ref", Kind::Text),
        key("password", Kind::Secret),
        key("password_file", Kind::Path),
        key("password_ref", Kind::Text),
    ]],
    check: unchecked,
};

static AUTHORIZATION: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("type", Kind::Text),
        key("credentials", Kind::Secret),
        key("credentials_file", Kind::Path),
        key("credentials_ref", Kind::Text),
    ]],
    check: unchecked,
};

static OAUTH2: Schema = Schema {
    go: "config.plain",
    parts: &[&[
        key("client_id", Kind::Text).always(),
        key("client_secret", Kind::Secret).always(),
        key("client_secret_file", Kind::Path).always(),
        key("client_secret_ref", Kind::Text),
        key("client_certificate_key_id", Kind::Text),
        key("client_certificate_key", Kind::Secret),
        key("client_certificate_key_file", Kind::Path),
        key("client_certificate_key_ref", Kind::Text),
        key("grant_type", Kind::Text),
        key("signature_algorithm", Kind::Text),
        key("iss", Kind::Text),
        key("audience", Kind::Text),
        key("claims", Kind::TextMap),
        key("scopes", Kind::Texts),
        key("token_url", Kind::Text).always(),
        key("endpoint_params", Kind::TextMap),
        key("tls_config", Kind::Section(&TLS)),
        key("proxy_url", Kind::Url),
        key("no_proxy", Kind::Text),
        key("proxy_from_environment", Kind::Bool),
        key("proxy_connect_header", Kind::SecretMap),
        key("http_headers", Kind::SectionMap(&HEADER)),
    ]],
    check: check_oauth2,
};

static HEADER: Schema = Schema {
    go: "config.plain",
    parts: &[&[key("values", Kind::Texts), key("secrets", Kind::Secrets), key("files", Kind::Paths)]],
    check: unchecked,
};

/// Headers that the client sets itself.
const RESERVED_HEADERS: [&str; 16] = [
    "Authorization",
    "Host",
    "Content-Encoding",
    "Content-Length",
    "Content-Type",
    "User-Agent",
    "Connection",
    "Keep-Alive",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Www-Authenticate",
    "Accept-Encoding",
    "X-Prometheus-Remote-Write-Version",
    "X-Prometheus-Remote-Read-Version",
    "X-Prometheus-Scrape-Timeout-Seconds",
    "X-Amz-",
];

/// Checks the inline keys, and moves a `bearer_token` to where it belongs.
pub(in crate::config) fn check_http(block: &mut Block) -> Check {
    let bearer = !block.text("bearer_token").is_empty();
    let bearer_file = !block.text("bearer_token_file").is_empty();
    if bearer && bearer_file {
        let text = "at most one of bearer_token & bearer_token_file must be configured";
        return Err(block.problem("bearer_token_file", text));
    }
    let (basic, oauth2) = (block.is_set("basic_auth"), block.is_set("oauth2"));
    if (basic || oauth2) && (bearer || bearer_file) {
        let text = "at most one of basic_auth, oauth2, bearer_token & bearer_token_file must be configured";
        return Err(block.problem(if bearer { "bearer_token" } else { "bearer_token_file" }, text));
    }
    if let Some(auth) = block.section("basic_auth") {
        let text = "at most one of the basic_auth username, username_file & username_ref must be configured";
        at_most_one(auth, &["username", "username_file", "username_ref"], text)?;
        let text = "at most one of the basic_auth password, password_file & password_ref must be configured";
        at_most_one(auth, &["password", "password_file", "password_ref"], text)?;
    }
    check_authorization(block, bearer || bearer_file, basic || oauth2)?;
    if basic && oauth2 {
        let text = "at most one of basic_auth, oauth2 & authorization must be configured";
        return Err(block.problem("oauth2", text));
    }
    check_proxy(block)?;
    for (name, header) in block.section_map("http_headers") {
        check_header(name).map_err(|p| p.at(header.at))?;
    }
    adopt_bearer(block);
    Ok(())
}

fn check_authorization(block: &mut Block, bearer: bool, other: bool) -> Check {
    let Some(auth) = block.section("authorization") else {
        return Ok(());
    };
    if bearer {
        let text = "authorization is not compatible with bearer_token & bearer_token_file";
        return Err(block.problem("authorization", text));
    }
    let text = "at most one of the authorization credentials & credentials_file must be configured";
    at_most_one(auth, &["credentials", "credentials_file", "credentials_ref"], text)?;
    let kind = auth.text("type").trim().to_owned();
    if kind.eq_ignore_ascii_case("basic") {
        let text = "authorization type cannot be set to \"basic\", use \"basic_auth\" instead";
        return Err(auth.problem("type", text));
    }
    if other {
        let text = "at most one of basic_auth, oauth2 & authorization must be configured";
        return Err(block.problem("authorization", text));
    }
    let kind = if kind.is_empty() { "Bearer".to_owned() } else { kind };
    let place = auth.is_given("type").then(|| auth.place("type")).flatten();
    if let Some(auth) = block.section_mut("authorization") {
        auth.set("type", Value::Text(kind), place);
    }
    Ok(())
}

fn adopt_bearer(block: &mut Block) {
    for (old, new) in [("bearer_token", "credentials"), ("bearer_token_file", "credentials_file")] {
        let token = block.text(old).to_owned();
        if token.is_empty() {
            continue;
        }
        let place = block.place(old);
        let mut auth = Block::new(&AUTHORIZATION, place);
        auth.set("type", Value::Text("Bearer".to_owned()), None);
        auth.set(new, Value::Text(token), place);
        block.set("authorization", Value::Section(Box::new(auth)), place);
        block.set(old, Value::Unset, None);
    }
}

pub(in crate::config) fn at_most_one(block: &Block, keys: &[&str], text: &str) -> Check {
    let mut given = keys.iter().filter(|k| !block.text(k).is_empty());
    match (given.next(), given.next()) {
        (Some(_), Some(second)) => Err(block.problem(second, text)),
        _ => Ok(()),
    }
}

fn check_header(name: &str) -> Check {
    let lower = name.to_ascii_lowercase();
    let reserved = RESERVED_HEADERS.iter().any(|r| {
        let r = r.to_ascii_lowercase();
        lower == r || (r.ends_with('-') && lower.starts_with(&r))
    });
    if !reserved {
        return Ok(());
    }
    let name = model::quote::quoted(&canonical(name));
    Err(Problem::new(format!("setting header {name} is not allowed")))
}

/// `x-foo-bar` as `X-Foo-Bar`.
fn canonical(name: &str) -> String {
    let mut start = true;
    let turn = |c: char| {
        let turned = if start { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
        start = c == '-';
        turned
    };
    name.chars().map(turn).collect()
}

fn check_proxy(block: &Block) -> Check {
    let url = !block.text("proxy_url").is_empty();
    let no_proxy = !block.text("no_proxy").is_empty();
    let environment = block.is_true("proxy_from_environment");
    let connect = !block.list_map("proxy_connect_header").is_empty();
    if connect && !environment && !url {
        let text = "if proxy_connect_header is configured, proxy_url or proxy_from_environment must also be configured";
        return Err(block.problem("proxy_connect_header", text));
    }
    if environment && url {
        let text = "if proxy_from_environment is configured, proxy_url must not be configured";
        return Err(block.problem("proxy_url", text));
    }
    if environment && no_proxy {
        let text = "if proxy_from_environment is configured, no_proxy must not be configured";
        return Err(block.problem("no_proxy", text));
    }
    if no_proxy && !url {
        let text = "if no_proxy is configured, proxy_url must also be configured";
        return Err(block.problem("no_proxy", text));
    }
    Ok(())
}

fn check_oauth2(block: &mut Block) -> Check {
    for name in ["client_id", "token_url"] {
        if block.text(name).is_empty() {
            return Err(block.problem(name, format!("oauth2 {name} must be configured")));
        }
    }
    let text = "at most one of oauth2 client_secret, client_secret_file & client_secret_ref must be configured \
                using grant-type=client_credentials";
    at_most_one(block, &["client_secret", "client_secret_file", "client_secret_ref"], text)?;
    check_proxy(block)
}

const TLS_VERSIONS: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];

fn check_tls(block: &mut Block) -> Check {
    for (one, text) in [
        ("ca", "at most one of ca and ca_file must be configured"),
        ("cert", "at most one of cert and cert_file must be configured"),
        ("key", "at most one of key and key_file must be configured"),
    ] {
        at_most_one(block, &[one, &format!("{one}_file"), &format!("{one}_ref")], text)?;
    }
    let has =
        |name: &str| ["", "_file", "_ref"].iter().any(|s| !block.text(&format!("{name}{s}")).is_empty());
    if has("cert") && !has("key") {
        let text =
            "exactly one of key or key_file must be configured when a client certificate is configured";
        return Err(block.problem("cert_file", text));
    }
    if has("key") && !has("cert") {
        let text = "exactly one of cert or cert_file must be configured when a client key is configured";
        return Err(block.problem("key_file", text));
    }
    let mut versions = [None; 2];
    for (name, version) in ["min_version", "max_version"].iter().zip(&mut versions) {
        let text = block.text(name);
        *version = TLS_VERSIONS.iter().position(|v| *v == text);
        if version.is_none() && !text.is_empty() {
            let message = format!("unknown TLS version: {}", model::quote::quoted(text));
            return Err(block.problem(name, message).allow(TLS_VERSIONS));
        }
    }
    if let [Some(min), Some(max)] = versions
        && max < min
    {
        let text = "tls_config.max_version must be greater than or equal to tls_config.min_version if both are specified";
        return Err(block.problem("max_version", text));
    }
    Ok(())
}
