//! A target inside the test: a listener that serves what the test tells it, page by page.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::spawn;
use std::time::Duration;

/// What a scrape gets.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) status: &'static str,
    pub(crate) content_type: &'static str,
    pub(crate) is_gzip: bool,
    pub(crate) delay: Duration,
    pub(crate) body: Vec<u8>,
}

impl Page {
    pub(crate) fn of(text: impl Into<String>) -> Page {
        Page {
            status: "200 OK",
            content_type: "text/plain; version=0.0.4",
            is_gzip: false,
            delay: Duration::ZERO,
            body: text.into().into_bytes(),
        }
    }

    pub(crate) fn status(status: &'static str) -> Page {
        Page { status, ..Page::of("") }
    }

    pub(crate) fn gzipped(text: impl AsRef<[u8]>) -> Page {
        let text = text.as_ref();
        let mut compressor = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        let mut body = vec![0; compressor.gzip_compress_bound(text.len())];
        let length = compressor.gzip_compress(text, &mut body).expect("room for the body");
        body.truncate(length);
        Page { is_gzip: true, body, ..Page::of("") }
    }
}

/// What a scrape asked: the request line and the headers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: Vec<String>,
}

type Script = Box<dyn FnMut(&Asked) -> Page + Send>;

struct Shared {
    script: Mutex<Script>,
    last: Mutex<Asked>,
    served: AtomicU64,
    connections: AtomicU64,
    is_over: AtomicBool,
}

pub(crate) struct Target {
    pub(crate) port: u16,
    shared: Arc<Shared>,
}

impl Target {
    /// Answers every scrape by `script`.
    pub(crate) fn scripted(script: impl FnMut(&Asked) -> Page + Send + 'static) -> Target {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            last: Mutex::default(),
            served: AtomicU64::new(0),
            connections: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let ours = shared.clone();
        spawn(move || {
            for stream in listener.incoming().flatten() {
                if ours.is_over.load(Ordering::SeqCst) {
                    return;
                }
                ours.connections.fetch_add(1, Ordering::SeqCst);
                let ours = ours.clone();
                // Ends when the scraper closes its connection.
                spawn(move || serve(stream, &ours));
            }
        });
        Target { port, shared }
    }

    /// Serves one text until told otherwise.
    pub(crate) fn with(text: &str) -> Target {
        let page = Page::of(text);
        Target::scripted(move |_| page.clone())
    }

    pub(crate) fn serve(&self, page: Page) {
        self.serve_by(move |_| page.clone());
    }

    pub(crate) fn serve_text(&self, text: &str) {
        self.serve(Page::of(text));
    }

    pub(crate) fn serve_by(&self, script: impl FnMut(&Asked) -> Page + Send + 'static) {
        *self.shared.script.lock().expect("the script") = Box::new(script);
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Pages served so far.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn last_asked(&self) -> Asked {
        self.shared.last.lock().expect("the last request").clone()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // Wakes the listener, which then ends.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) {
    let Ok(reading) = stream.try_clone() else { return };
    let mut lines = BufReader::new(reading).lines();
    while let Some(Ok(first)) = lines.next() {
        let path = first.split(' ').nth(1).unwrap_or("").to_owned();
        let mut asked = Asked { path, headers: Vec::new() };
        for line in lines.by_ref() {
            match line {
                Ok(line) if line.is_empty() => break,
                Ok(line) => asked.headers.push(line),
                Err(_) => return,
            }
        }
        if shared.is_over.load(Ordering::SeqCst) {
            return;
        }
        *shared.last.lock().expect("the last request") = asked.clone();
        let page = (shared.script.lock().expect("the script"))(&asked);
        std::thread::sleep(page.delay);
        let encoding = if page.is_gzip { "Content-Encoding: gzip\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\n{encoding}Content-Length: {}\r\n\r\n",
            page.status,
            page.content_type,
            page.body.len()
        );
        if stream.write_all(head.as_bytes()).is_err() || stream.write_all(&page.body).is_err() {
            return;
        }
        shared.served.fetch_add(1, Ordering::SeqCst);
    }
}

/// A configuration that scrapes each target as a job of its own, with further lines for each job.
pub(crate) fn config(interval: &str, jobs: &[(&str, &str, &str)]) -> String {
    let mut text =
        format!("global:\n  scrape_interval: {interval}\n  scrape_timeout: {interval}\nscrape_configs:\n");
    for (name, address, more) in jobs {
        text.push_str(&format!("  - job_name: {name}\n    static_configs: [{{targets: [\"{address}\"]}}]\n"));
        for line in more.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}
