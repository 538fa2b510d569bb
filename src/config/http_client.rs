//! How an HTTP client of ours presents itself: credentials, TLS, proxies, headers. Plain data.

use std::fmt;
use std::path::PathBuf;

/// The keys that Prometheus puts inline into everything that speaks HTTP.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpClient {
    pub auth: Option<Auth>,
    pub tls: Tls,
    pub proxy: Proxy,
    pub follow_redirects: bool,
    pub enable_http2: bool,
    /// Sorted by name.
    pub headers: Vec<(String, HeaderValues)>,
}

impl Default for HttpClient {
    fn default() -> Self {
        HttpClient {
            auth: None,
            tls: Tls::default(),
            proxy: Proxy::default(),
            follow_redirects: true,
            enable_http2: true,
            headers: Vec::new(),
        }
    }
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// A text given in the configuration, or the file that holds it; files are read on every use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given<T> {
    Inline(T),
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Auth {
    Basic { username: Given<String>, password: Given<Secret> },
    Header { kind: String, credentials: Given<Secret> },
    OAuth2(Box<OAuth2>),
}

#[derive(Clone, Debug, PartialEq)]
pub struct OAuth2 {
    pub client_id: String,
    pub client_secret: Given<Secret>,
    pub scopes: Vec<String>,
    pub token_url: String,
    pub endpoint_params: Vec<(String, String)>,
    pub tls: Tls,
    pub proxy: Proxy,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    pub ca: Option<Given<String>>,
    pub cert: Option<Given<String>>,
    pub key: Option<Given<Secret>>,
    pub server_name: String,
    pub insecure_skip_verify: bool,
    /// As written: `TLS10` to `TLS13`.
    pub min_version: Option<String>,
    pub max_version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxy {
    pub url: Option<String>,
    pub no_proxy: String,
    pub from_environment: bool,
    pub connect_headers: Vec<(String, Vec<Secret>)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderValues {
    pub values: Vec<String>,
    pub secrets: Vec<Secret>,
    pub files: Vec<PathBuf>,
}
