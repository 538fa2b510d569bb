//! One target's page over its connection: kept alive, one exchange at a time.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use libdeflater::{DecompressionError, Decompressor};
use model::float_text::format_f;

use crate::config::ScrapeConfig;
use crate::config::http_client::{Auth, Given, Secret};
use crate::http::request::base64;
use crate::http::response::{Due, HEAD_BYTES_MAX};
use crate::http::{Body, BodyReader, Head, Request};
use crate::rt;
use crate::rt::net::{self, Address, Stream};
use crate::rt::offload::{Blocking, offload};
use crate::scrape::content::{self, Form};
use crate::scrape::incoming::{Incoming, STREAM_BYTES_MIN, STREAM_PACKED_MIN, body_failed};
use crate::scrape::partial;
use crate::scrape::reading::Reading;
use crate::scrape::{Error, Features, Settings, Target};

/// As Go's client.
const REDIRECTS_MAX: usize = 10;

/// The first read of an answer: room for a head (150-400 bytes), and little of the body that must then be copied.
const FIRST_READ: usize = 1024;

/// Reads of a body whose length is not known.
const CHUNK_READ: usize = 16 * 1024;

/// Buffers kept for pages to come. Two dozen scrapes are in flight at once on a busy shard; with pages of 60 KB
/// these are 2 MB.
const BUFFERS_MAX: usize = 32;

/// Deflate makes a byte of at most 1032: what a trailer may claim is bounded by what came.
const DEFLATE_RATIO_MAX: usize = 1032;

/// Page buffers and the decompressor of a shard.
pub struct Buffers {
    free: RefCell<Vec<Vec<u8>>>,
    decompressor: RefCell<Decompressor>,
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers { free: RefCell::default(), decompressor: RefCell::new(Decompressor::new()) }
    }
}

impl Buffers {
    /// A buffer for a page of `want` bytes. Its bytes are old ones: they need not be zeroed again.
    fn take(&self, want: usize) -> Vec<u8> {
        let mut free = self.free.borrow_mut();
        let fits = |b: &Vec<u8>| b.capacity() >= want && b.capacity() <= want + want / 8 + 1024;
        match free.iter().rposition(fits) {
            Some(i) => free.swap_remove(i),
            None => Vec::with_capacity(want),
        }
    }

    /// Takes a buffer back.
    pub fn give(&self, buffer: Vec<u8>) {
        let mut free = self.free.borrow_mut();
        if buffer.capacity() == 0 {
            return;
        }
        if free.len() >= BUFFERS_MAX {
            free.remove(0);
        }
        free.push(buffer);
    }

    fn gunzip(&self, packed: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        let mut size = unpacked_bytes(packed).clamp(1, limit.max(1));
        let mut page = self.take(size);
        let (mut rest, mut filled) = (packed, 0);
        while !rest.is_empty() {
            page.resize(size, 0);
            match self.decompressor.borrow_mut().gzip_decompress(rest, &mut page[filled..]) {
                Ok(n) => {
                    rest = behind_member(rest, &page[filled..filled + n]);
                    filled += n;
                }
                Err(DecompressionError::InsufficientSpace) if size >= limit => return Err(Error::BodyLimit),
                Err(DecompressionError::InsufficientSpace) => {
                    size = size.saturating_mul(2).max(filled + rest.len()).min(limit);
                }
                Err(DecompressionError::BadData) => {
                    let text =
                        if rest.starts_with(&GZIP_MAGIC) { "unexpected EOF" } else { "gzip: invalid header" };
                    return Err(Error::Fetch(text.to_owned()));
                }
            }
        }
        page.truncate(filled);
        Ok(page)
    }
}

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// What follows the first member of a gzip body, which unpacks to `page`: a body may be several, one behind the
/// other. The decompressor does not tell where it stopped, but a member ends with the checksum and length of what
/// it holds.
fn behind_member<'a>(packed: &'a [u8], page: &[u8]) -> &'a [u8] {
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(&libdeflater::crc32(page).to_le_bytes());
    trailer[4..].copy_from_slice(&(page.len() as u32).to_le_bytes());
    let finder = memchr::memmem::Finder::new(&trailer);
    let (mut from, mut first) = (0, None);
    while let Some(at) = finder.find(&packed[from..]) {
        let rest = &packed[from + at + trailer.len()..];
        if rest.is_empty() || rest.starts_with(&GZIP_MAGIC) {
            return rest;
        }
        // The same bytes may lie inside the member (an empty one has little but zeros), or garbage behind it.
        first = first.or(Some(rest));
        from += at + 1;
    }
    first.unwrap_or_default()
}

/// How far an exchange came: a deadline that passes is worded by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    #[default]
    Head,
    Body,
}

/// A page as it came.
pub struct Fetched {
    pub page: Page,
    /// `None` for an empty page: then nobody asks.
    pub form: Option<Form>,
}

/// All of a page, or one that is yet to come.
pub enum Page {
    Whole(Vec<u8>),
    Coming(Box<Incoming>),
}

/// One target's connection.
#[derive(Default)]
pub struct Client {
    connection: Option<(String, Stream)>,
    pub phase: Cell<Phase>,
    coming: Coming,
}

/// A body while it comes: what there is of it when the deadline passes.
#[derive(Default)]
struct Coming {
    page: Vec<u8>,
    /// Of the page's bytes.
    filled: usize,
    content_type: String,
    is_gzip: bool,
}

/// Why an exchange failed, and whether a fresh connection is worth a try.
struct Failure {
    error: Error,
    is_retryable: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure { error, is_retryable: false }
    }
}

impl Client {
    /// The text of a deadline that passed.
    pub fn timed_out(&self, target: &Target) -> Error {
        match self.phase.get() {
            Phase::Head => Error::Fetch(format!("Get \"{}\": context deadline exceeded", target.url)),
            Phase::Body => Error::Fetch("context deadline exceeded".to_owned()),
        }
    }

    /// What came of a page before the deadline passed, as far as the job keeps it: whole families.
    pub fn take_partial(&mut self, buffers: &Buffers, config: &ScrapeConfig) -> Option<Fetched> {
        let Coming { mut page, filled, content_type, is_gzip } = std::mem::take(&mut self.coming);
        page.truncate(filled);
        // A packed page was not asked for.
        let form = match config.keeps_partial && self.phase.get() == Phase::Body && !is_gzip {
            true => content::form(&content_type, config.fallback_protocol).ok(),
            false => None,
        };
        match form {
            Some(form) => partial::keep_whole(form, &mut page),
            None => page.clear(),
        }
        if page.is_empty() {
            buffers.give(page);
            return None;
        }
        Some(Fetched { page: Page::Whole(page), form })
    }

    /// Keeps the connection of a page that came, for the next one.
    pub fn keep(&mut self, target: &Target, incoming: Incoming) {
        self.connection = incoming.into_connection().map(|stream| (target.address.clone(), stream));
    }

    /// The target's page. Dropping the future closes the connection.
    pub async fn fetch(
        &mut self,
        buffers: &Buffers,
        config: &ScrapeConfig,
        target: &Target,
        settings: &Settings,
    ) -> Result<Fetched, Error> {
        self.phase.set(Phase::Head);
        check_supported(config, target)?;
        let headers = headers(config, target, settings).await?;
        let mut at = (target.address.clone(), target.path.clone());
        for _ in 0..=REDIRECTS_MAX {
            let ask = Ask { buffers, config, target, features: settings.features };
            let (head, body) = self.exchange_retrying(ask, &at, &headers).await?;
            if let Some(location) = redirect(&head, config) {
                at = redirected(&at, &location)
                    .map_err(|e| Error::Fetch(format!("Get \"{location}\": {e}")))?;
                continue;
            }
            return page_of(buffers, config, &head, body);
        }
        Err(Error::Fetch(format!("Get \"{}\": stopped after {REDIRECTS_MAX} redirects", target.url)))
    }

    async fn exchange_retrying(
        &mut self,
        ask: Ask<'_>,
        at: &(String, String),
        headers: &[(String, String)],
    ) -> Result<(Head, Page), Error> {
        let (address, path) = at;
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let request = Request { host: address, path, headers: &headers }.to_bytes();
        let kept = self.connection.take().filter(|(a, _)| a == address).map(|(_, stream)| stream);
        if let Some(stream) = kept {
            match self.exchange(ask, address, stream, &request).await {
                // The target closed an idle connection: nobody's fault.
                Err(f) if f.is_retryable => {}
                other => return other.map_err(|f| f.error),
            }
        }
        let stream = connect(ask.target, address).await?;
        self.exchange(ask, address, stream, &request).await.map_err(|f| f.error)
    }

    async fn exchange(
        &mut self,
        ask: Ask<'_>,
        address: &str,
        mut stream: Stream,
        request: &[u8],
    ) -> Result<(Head, Page), Failure> {
        let Ask { buffers, config, target, .. } = ask;
        let failed = |what: &str, e: rt::Error| get_failed(target, &format!("{what}: {}", go_text(&e)));
        let retryable = |error| Failure { error, is_retryable: true };
        stream.write_all(request).await.map_err(|e| retryable(failed("write", e)))?;
        let mut lead = vec![0; FIRST_READ];
        let mut filled = 0;
        let (head, head_bytes) = loop {
            let count = stream.read(&mut lead[filled..]).await.map_err(|e| {
                let error = failed("read", e);
                Failure { error, is_retryable: filled == 0 }
            })?;
            if count == 0 {
                let text = if filled == 0 { "EOF" } else { "unexpected EOF" };
                return Err(Failure { error: get_failed(target, text), is_retryable: filled == 0 });
            }
            filled += count;
            let parsed = Head::parse(&lead[..filled]).map_err(|e| get_failed(target, &e.to_string()))?;
            if let Some(found) = parsed {
                break found;
            }
            if filled == lead.len() {
                lead.resize((lead.len() * 2).min(HEAD_BYTES_MAX), 0);
            }
        };
        self.phase.set(Phase::Body);
        if head.status != 200 {
            // Its body is of no use, and the connection with it.
            return Ok((head, Page::Whole(Vec::new())));
        }
        let limit = body_limit(config, &head);
        buffers.give(std::mem::take(&mut self.coming.page));
        self.coming =
            Coming { content_type: head.content_type.clone(), is_gzip: head.is_gzip, ..Coming::default() };
        let lead = &lead[head_bytes..filled];
        let large = ask.large(&head);
        let rest = read_body(buffers, &mut stream, head.body, limit, lead, large, &mut self.coming).await?;
        let body = std::mem::take(&mut self.coming.page);
        let is_large = rest.is_some() || (head.is_gzip && unpacked_bytes(&body) >= large.unpacked);
        if is_large {
            let reader = match rest {
                Some(reader) => reader,
                None => BodyReader::new(Body::Length(0), limit).map_err(body_failed)?,
            };
            let (is_gzip, limit, reuse) = (head.is_gzip, page_limit(config), head.is_reusable);
            // Its address is the target's own: who was led elsewhere is led there again.
            let is_reusable = reuse && address == target.address;
            let incoming = Incoming::new(stream, reader, body, is_gzip, limit, is_reusable);
            return Ok((head, Page::Coming(Box::new(incoming))));
        }
        if head.is_reusable {
            self.connection = Some((address.to_owned(), stream));
        }
        Ok((head, Page::Whole(body)))
    }
}

/// What is asked, for whom.
#[derive(Clone, Copy)]
struct Ask<'a> {
    buffers: &'a Buffers,
    config: &'a ScrapeConfig,
    target: &'a Target,
    features: Features,
}

/// From how many bytes on a body is not gathered.
#[derive(Clone, Copy)]
struct Large {
    body: usize,
    unpacked: usize,
}

impl Ask<'_> {
    /// Pages are read as they come if they are large; where families of a page that was cut off are kept, or nothing
    /// can be said before the end, all is gathered.
    fn large(&self, head: &Head) -> Large {
        let form = content::form(&head.content_type, self.config.fallback_protocol).ok();
        let reading = form.map(|f| Reading::of(f, self.target.histograms, self.features));
        match reading {
            Some(reading) if reading.can_stream(self.features) && !self.config.keeps_partial => {
                let body = if head.is_gzip { STREAM_PACKED_MIN } else { STREAM_BYTES_MIN };
                Large { body, unpacked: STREAM_BYTES_MIN }
            }
            _ => Large { body: usize::MAX, unpacked: usize::MAX },
        }
    }
}

/// What a packed body says of its page's size.
fn unpacked_bytes(packed: &[u8]) -> usize {
    let trailer = packed.last_chunk::<4>().map_or(0, |t| u32::from_le_bytes(*t) as usize);
    trailer.min(packed.len().saturating_mul(DEFLATE_RATIO_MAX))
}

/// Bytes of a body that are read at most. `body_size_limit` bounds the page unpacked, and a page of that very size
/// is too large; packed it may be a little larger than that.
fn body_limit(config: &ScrapeConfig, head: &Head) -> usize {
    let limit = page_limit(config);
    if head.is_gzip { limit.saturating_add(1024) } else { limit }
}

fn page_limit(config: &ScrapeConfig) -> usize {
    match config.limits.body_bytes {
        0 => exposition::page::PAGE_BYTES_MAX,
        n => usize::try_from(n - 1).unwrap_or(usize::MAX).min(exposition::page::PAGE_BYTES_MAX),
    }
}

/// Reads a body to its end; or, where it is a large one, some of it: then its reader is given back.
async fn read_body(
    buffers: &Buffers,
    stream: &mut Stream,
    kind: Body,
    limit: usize,
    lead: &[u8],
    large: Large,
    coming: &mut Coming,
) -> Result<Option<BodyReader>, Error> {
    let mut reader = BodyReader::new(kind, limit).map_err(body_failed)?;
    let known = if let Body::Length(n) = kind { Some(n as usize) } else { None };
    if let Some(n) = known.filter(|n| *n < large.body) {
        return read_known(buffers, stream, reader, n, lead, coming).await.map(|()| None);
    }
    coming.page = buffers.take(CHUNK_READ);
    coming.page.clear();
    reader.take(lead, &mut coming.page).map_err(body_failed)?;
    let mut chunk = vec![0; CHUNK_READ];
    while reader.due() != Due::Nothing {
        if known.is_some() || coming.page.len() >= large.body {
            return Ok(Some(reader));
        }
        coming.filled = coming.page.len();
        let count = stream.read(&mut chunk).await.map_err(|e| Error::Fetch(go_text(&e)))?;
        if count == 0 {
            reader.close().map_err(body_failed)?;
        }
        reader.take(&chunk[..count], &mut coming.page).map_err(body_failed)?;
    }
    Ok(None)
}

/// A body of known length goes straight into the page's buffer, and not a byte more is asked for.
async fn read_known(
    buffers: &Buffers,
    stream: &mut Stream,
    mut reader: BodyReader,
    length: usize,
    lead: &[u8],
    coming: &mut Coming,
) -> Result<(), Error> {
    coming.page = buffers.take(length);
    coming.page.resize(length, 0);
    coming.filled = lead.len().min(length);
    coming.page[..coming.filled].copy_from_slice(&lead[..coming.filled]);
    reader.note_read(coming.filled);
    while let Due::Exactly(left) = reader.due() {
        let gap = &mut coming.page[coming.filled..coming.filled + left];
        let count = stream.read(gap).await.map_err(|e| Error::Fetch(go_text(&e)))?;
        if count == 0 {
            reader.close().map_err(body_failed)?;
        }
        coming.filled += count;
        reader.note_read(count);
    }
    Ok(())
}

fn page_of(buffers: &Buffers, config: &ScrapeConfig, head: &Head, body: Page) -> Result<Fetched, Error> {
    if head.status != 200 {
        return Err(Error::Fetch(format!("server returned HTTP status {}", head.status_text)));
    }
    let page = match body {
        Page::Whole(body) if head.is_gzip && !body.is_empty() => {
            let page = buffers.gunzip(&body, page_limit(config))?;
            buffers.give(body);
            Page::Whole(page)
        }
        other => other,
    };
    if matches!(&page, Page::Whole(page) if page.is_empty()) {
        return Ok(Fetched { page, form: None });
    }
    let form = content::form(&head.content_type, config.fallback_protocol)?;
    Ok(Fetched { page, form: Some(form) })
}

fn redirect(head: &Head, config: &ScrapeConfig) -> Option<String> {
    let is_redirect = matches!(head.status, 301 | 302 | 303 | 307 | 308);
    if is_redirect && config.http.follow_redirects { head.location.clone() } else { None }
}

/// Where `location` leads from `at`.
fn redirected(at: &(String, String), location: &str) -> Result<(String, String), String> {
    if let Some(rest) = location.strip_prefix("http://") {
        let (address, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let path = if path.is_empty() { "/" } else { path };
        return Ok((address.to_owned(), path.to_owned()));
    }
    if location.contains("://") {
        return Err(format!("unsupported redirect to {location:?}"));
    }
    if location.starts_with('/') {
        return Ok((at.0.clone(), location.to_owned()));
    }
    let base = at.1.split('?').next().unwrap_or_default();
    let dir = &base[..base.rfind('/').map_or(0, |i| i + 1)];
    Ok((at.0.clone(), format!("{dir}{location}")))
}

async fn connect(target: &Target, address: &str) -> Result<Stream, Error> {
    let to = match &target.unix_socket {
        Some(path) => Address::Unix(path.into()),
        None => {
            let (host, port) = host_and_port(address);
            net::address_of(host, port)
                .await
                .map_err(|e| get_failed(target, &format!("dial tcp: lookup {host}: {}", lookup_text(&e))))?
        }
    };
    let (network, call) =
        if matches!(to, Address::Tcp(_)) { ("tcp", "connect") } else { ("unix", "connect") };
    let failed = |e: rt::Error| get_failed(target, &format!("dial {network} {to}: {call}: {}", go_text(&e)));
    Stream::connect(&to).await.map_err(failed)
}

/// The port of plain HTTP where none is given.
fn host_and_port(address: &str) -> (&str, u16) {
    let default = (address, 80);
    match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            port.parse().map_or(default, |port| (host, port))
        }
        _ => default,
    }
}

fn get_failed(target: &Target, what: &str) -> Error {
    Error::Fetch(format!("Get \"{}\": {what}", target.url))
}

/// The system's words as Go prints them: without Rust's number, in lower case.
pub(super) fn go_text(e: &rt::Error) -> String {
    let Some(io) = e.io() else { return e.to_string() };
    let text = io.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn lookup_text(e: &rt::Error) -> String {
    let text = go_text(e);
    if text.contains("not known") || text.contains("no address") { "no such host".to_owned() } else { text }
}

/// What this build cannot do is said, not done otherwise.
fn check_supported(config: &ScrapeConfig, target: &Target) -> Result<(), Error> {
    let refuse = |what: &str| Err(get_failed(target, &format!("{what} is not supported by this build")));
    if target.scheme != "http" {
        return refuse(&format!("scheme {:?}", target.scheme));
    }
    if config.http.proxy.url.is_some() {
        return refuse("proxy_url");
    }
    match &config.http.auth {
        Some(Auth::OAuth2(_)) => refuse("oauth2"),
        _ => Ok(()),
    }
}

async fn headers(
    config: &ScrapeConfig,
    target: &Target,
    settings: &Settings,
) -> Result<Vec<(String, String)>, Error> {
    // Of a packed page that was cut off nothing can be kept.
    let is_packed = config.enable_compression && !config.keeps_partial;
    let encoding = if is_packed { "gzip" } else { "identity" };
    let timeout = format_f(Duration::from_millis(target.timeout_ms.unsigned_abs()).as_secs_f64());
    let mut headers: Vec<(String, String)> = [
        ("User-Agent", settings.user_agent.clone()),
        ("Accept", content::accept(config, settings.features)),
        ("Accept-Encoding", encoding.to_owned()),
        ("X-Prometheus-Scrape-Timeout-Seconds", timeout),
    ]
    .map(|(n, v)| (n.to_owned(), v))
    .into();
    if let Some(value) = authorization(config).await? {
        headers.push(("Authorization".to_owned(), value));
    }
    for (name, values) in &config.http.headers {
        let secrets = values.secrets.iter().map(|s| &s.0);
        headers.extend(values.values.iter().chain(secrets).map(|v| (name.clone(), v.clone())));
        for path in &values.files {
            headers.push((name.clone(), read_file(path.clone()).await?));
        }
    }
    Ok(headers)
}

async fn authorization(config: &ScrapeConfig) -> Result<Option<String>, Error> {
    Ok(match &config.http.auth {
        None | Some(Auth::OAuth2(_)) => None,
        Some(Auth::Basic { username, password }) => {
            let username = match username {
                Given::Inline(text) => text.clone(),
                Given::File(path) => read_file(path.clone()).await?,
            };
            let text = format!("{username}:{}", secret(password).await?);
            Some(format!("Basic {}", base64(text.as_bytes())))
        }
        Some(Auth::Header { kind, credentials }) => Some(format!("{kind} {}", secret(credentials).await?)),
    })
}

async fn secret(given: &Given<Secret>) -> Result<String, Error> {
    match given {
        Given::Inline(secret) => Ok(secret.0.clone()),
        Given::File(path) => read_file(path.clone()).await,
    }
}

/// Files of credentials are read on every use, so that they can be renewed.
async fn read_file(path: std::path::PathBuf) -> Result<String, Error> {
    let shown = path.display().to_string();
    let failed = |e: &dyn std::fmt::Display| Error::Fetch(format!("unable to read file {shown}: {e}"));
    let read = offload(Blocking::Files, move || std::fs::read_to_string(path)).await;
    let text = read.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_they_say() {
        let at = ("h:1".to_owned(), "/a/metrics?x=1".to_owned());
        let check = |location: &str, want: Result<(&str, &str), ()>| {
            let got = redirected(&at, location).map_err(|_| ());
            assert_eq!(got, want.map(|(a, p)| (a.to_owned(), p.to_owned())), "{location}");
        };
        check("http://o:2/m", Ok(("o:2", "/m")));
        check("http://o:2", Ok(("o:2", "/")));
        check("/m?y", Ok(("h:1", "/m?y")));
        check("m", Ok(("h:1", "/a/m")));
        check("https://o/m", Err(()));
    }

    #[test]
    fn addresses_have_the_port_of_http_by_default() {
        assert_eq!(host_and_port("h:9100"), ("h", 9100));
        assert_eq!(host_and_port("h"), ("h", 80));
        assert_eq!(host_and_port("[::1]:9"), ("[::1]", 9));
        assert_eq!(host_and_port("[::1]"), ("[::1]", 80));
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let page = vec![b'a'; 1 << 20];
        let mut packed = vec![0; 1 << 16];
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let n = compressor.gzip_compress(&page, &mut packed).unwrap();
        let buffers = Buffers::default();
        assert_eq!(buffers.gunzip(&packed[..n], 1 << 20).unwrap(), page);
        assert_eq!(buffers.gunzip(&packed[..n], (1 << 20) - 1), Err(Error::BodyLimit));
        assert!(matches!(buffers.gunzip(b"no gzip at all", 1 << 20), Err(Error::Fetch(_))));
        // A trailer that lies about the size costs a second try, no more.
        packed[n - 4..n].copy_from_slice(&[1, 0, 0, 0]);
        let _ = buffers.gunzip(&packed[..n], 1 << 20);
    }

    #[test]
    fn every_member_of_a_body_is_read() {
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut pack = |text: &[u8]| {
            let mut out = vec![0; compressor.gzip_compress_bound(text.len())];
            let n = compressor.gzip_compress(text, &mut out).unwrap();
            out.truncate(n);
            out
        };
        let buffers = Buffers::default();
        let large = vec![b'x'; 70_000];
        let body = [pack(b"a 1\n"), pack(b""), pack(&large), pack(b"b 2\n"), pack(b"b 2\n")].concat();
        let page = [b"a 1\n", &large[..], b"b 2\n", b"b 2\n"].concat();
        assert_eq!(buffers.gunzip(&body, 1 << 20).unwrap(), page);
        assert_eq!(buffers.gunzip(&body, page.len()).unwrap(), page);
        assert_eq!(buffers.gunzip(&body, page.len() - 1), Err(Error::BodyLimit));
        let garbage = [&body[..], b"garbage"].concat();
        assert_eq!(buffers.gunzip(&garbage, 1 << 20), Err(Error::Fetch("gzip: invalid header".to_owned())));
        let cut = &body[..body.len() - 9];
        assert_eq!(buffers.gunzip(cut, 1 << 20), Err(Error::Fetch("unexpected EOF".to_owned())));
    }

    #[test]
    fn buffers_are_used_again_where_they_fit() {
        let buffers = Buffers::default();
        buffers.give(Vec::with_capacity(60_000));
        assert_eq!(buffers.take(1_000).capacity(), 1_000);
        assert_eq!(buffers.take(59_000).capacity(), 60_000);
    }
}
