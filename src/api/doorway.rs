//! The listener: connections that begin with remote write go to a shard, all others are served here.
//!
//! A sender of remote write keeps its connection and says the same thing thousands of times, so its requests are read
//! where they are taken. Should it say something else after all, the connection comes back with what was read of it.
//! Only for sockets without TLS and without credentials to be checked: a shard asks nobody for them.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::api::backend::Backend;
use crate::remote::connection::FIRST_LINE;

/// Sorted connections that wait for one worker of the front: it takes them at once.
const WAITING_MAX: usize = 1024;

/// After an error that is not one connection's (no descriptors left), before the next try.
const PAUSE: Duration = Duration::from_secs(1);

/// A connection that a shard may take.
pub struct Caller {
    pub socket: std::net::TcpStream,
    /// Brings it back, with the bytes that were read and not taken.
    pub back: Box<dyn FnOnce(std::net::TcpStream, Vec<u8>) + Send>,
}

/// Where one worker of the front gets its connections from.
pub struct Doorway {
    opened: mpsc::Receiver<Sorted>,
    address: SocketAddr,
}

/// A connection on its way to the worker that registers it with an executor of its own.
struct Sorted {
    socket: std::net::TcpStream,
    read: Vec<u8>,
    peer: SocketAddr,
}

impl Doorway {
    /// Begins to accept, for so many workers, who get the connections in turn. Must be called on the control plane.
    /// Without `shards` all connections are the front's.
    pub fn open(
        listener: TcpListener,
        shards: Option<Arc<dyn Backend>>,
        workers: usize,
    ) -> io::Result<Vec<Doorway>> {
        let address = listener.local_addr()?;
        let pairs = (0..workers.max(1)).map(|_| mpsc::channel(WAITING_MAX));
        let (senders, opened): (Vec<_>, Vec<_>) = pairs.unzip();
        tokio::spawn(accept(listener, shards, senders));
        Ok(opened.into_iter().map(|opened| Doorway { opened, address }).collect())
    }
}

impl Listener for Doorway {
    type Io = Socket;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Socket, SocketAddr) {
        // The task that accepts ends only after this.
        while let Some(Sorted { socket, read, peer }) = self.opened.recv().await {
            match TcpStream::from_std(socket) {
                Ok(stream) => return (Socket::new(stream, read), peer),
                Err(e) => tracing::error!(err = %e, "a connection cannot be served"),
            }
        }
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

type Sender = mpsc::Sender<Sorted>;

/// Until one of the workers takes no more: they stop together.
async fn accept(listener: TcpListener, shards: Option<Arc<dyn Backend>>, workers: Vec<Sender>) {
    for worker in workers.iter().cycle() {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = worker.closed() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                tokio::spawn(sort(stream, peer, shards.clone(), worker.clone()));
            }
            Err(e) if is_of_one_connection(&e) => {}
            Err(e) => {
                tracing::error!(err = %e, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(e.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Looks at the first bytes, and hands the connection on.
async fn sort(stream: TcpStream, peer: SocketAddr, shards: Option<Arc<dyn Backend>>, sender: Sender) {
    let mut first = [0; FIRST_LINE.len()];
    let seen = stream.peek(&mut first).await.unwrap_or(0);
    let shards = shards.filter(|s| first[..seen] == *FIRST_LINE && s.takes_callers());
    let Ok(socket) = stream.into_std() else { return };
    let Some(shards) = shards else {
        let _ = sender.send(Sorted { socket, read: Vec::new(), peer }).await;
        return;
    };
    let runtime = tokio::runtime::Handle::current();
    let back = Box::new(move |socket: std::net::TcpStream, read: Vec<u8>| {
        runtime.spawn(async move {
            let _ = sender.send(Sorted { socket, read, peer }).await;
        });
    });
    shards.take_caller(Caller { socket, back });
}

/// A stream of which some bytes were read before.
pub struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
    /// How many of them were read again.
    at: usize,
}

impl Socket {
    fn new(stream: TcpStream, read: Vec<u8>) -> Socket {
        Socket { stream, read, at: 0 }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let rest = &self.read[self.at..];
        if rest.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let count = rest.len().min(into.remaining());
        into.put_slice(&rest[..count]);
        self.at += count;
        if self.at == self.read.len() {
            (self.read, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
