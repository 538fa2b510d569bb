//! Sockets of a shard: streams over TCP and Unix sockets alike, and the listeners they come from.
//!
//! No operation has a deadline of its own: put a whole exchange under one with [`crate::rt::Pulse::within`], and
//! drop the stream when it passes.

use std::fmt;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::rt::buffer;
use crate::rt::error::{Error, Refused, io_error};
use crate::rt::executor;
use crate::rt::offload::{Blocking, offload};
use crate::rt::reply::Answer;

/// Whom to connect to: a resolved address or a socket's path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connected socket on this shard.
pub struct Stream {
    inner: glommio::net::TcpStream,
    peer: Option<Address>,
}

/// How long to wait before asking a busy Unix listener again.
const BUSY_WAIT: Duration = Duration::from_millis(5);

impl Stream {
    pub async fn connect(address: &Address) -> Result<Stream, Error> {
        let inner = match address {
            Address::Tcp(to) => {
                let connected = glommio::net::TcpStream::connect(*to).await.map_err(io_error);
                connected.and_then(|stream| {
                    stream.set_nodelay(true).map_err(io_error)?;
                    Ok(stream)
                })
            }
            Address::Unix(path) => connect_unix(path).await,
        };
        let inner = inner.map_err(|source| net_error("connect", Some(address), source))?;
        Ok(Stream { inner, peer: Some(address.clone()) })
    }

    /// Takes over a socket that another thread accepted.
    pub fn from_tcp(socket: std::net::TcpStream) -> Result<Stream, Error> {
        let peer = socket.peer_addr().ok().map(Address::Tcp);
        let failed = |source| net_error("adopt", peer.as_ref(), source);
        socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true)).map_err(failed)?;
        Ok(Stream { inner: buffer::stream(socket), peer })
    }

    /// Gives the socket to another thread.
    pub fn into_tcp(self) -> Result<std::net::TcpStream, Error> {
        buffer::reclaim(self.inner).map_err(|source| net_error("give up", self.peer.as_ref(), source))
    }

    pub(crate) fn from_unix(socket: std::os::unix::net::UnixStream) -> Stream {
        Stream { inner: buffer::stream(socket), peer: None }
    }

    pub fn peer(&self) -> Option<&Address> {
        self.peer.as_ref()
    }

    /// Reads what is there, at least one byte; 0 at the end of the stream. Ask for no more than is due: a read
    /// that fills its buffer costs one system call less.
    pub async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Error> {
        self.inner.read(bytes).await.map_err(|source| net_error("read", self.peer.as_ref(), source))
    }

    /// Fills `bytes`, or says that the peer closed before.
    pub async fn read_exact(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.read(&mut bytes[filled..]).await? {
                0 => return Err(Error::Closed { peer: peer_text(self.peer.as_ref()) }),
                count => filled += count,
            }
        }
        Ok(())
    }

    pub async fn write_all(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.inner.write_all(bytes).await.map_err(|source| net_error("write", self.peer.as_ref(), source))
    }

    /// Ends the stream in one direction or both.
    pub async fn shutdown(&mut self, how: Shutdown) -> Result<(), Error> {
        let ended = self.inner.shutdown(how).await.map_err(io_error);
        ended.map_err(|source| net_error("shutdown", self.peer.as_ref(), source))
    }
}

async fn connect_unix(path: &std::path::Path) -> io::Result<glommio::net::TcpStream> {
    let address = SockAddr::unix(path)?;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        match socket.connect(&address) {
            Ok(()) => return Ok(buffer::stream(socket)),
            // A Unix socket connects at once or, when the listener's queue is full, not yet.
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => executor::sleep(BUSY_WAIT).await,
            Err(e) => return Err(e),
        }
    }
}

/// Who may listen on an address at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// This listener alone: a taken port is an error.
    Alone,
    /// All shards that say the same; the kernel deals connections among them.
    Shards,
}

pub struct Listener {
    inner: glommio::net::TcpListener,
    address: SocketAddr,
}

/// Connections that wait to be accepted: what a burst of senders needs, and the kernel's own cap by default.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Listens on this shard. Port 0 takes a free one.
    pub fn bind(address: SocketAddr, sharing: Sharing) -> Result<Listener, Error> {
        let bound = listening_socket(address, sharing).and_then(|socket| {
            let local = socket.local_addr()?.as_socket().unwrap_or(address);
            Ok((socket, local))
        });
        let (socket, local) =
            bound.map_err(|source| net_error("listen on", Some(&Address::Tcp(address)), source))?;
        Ok(Listener { inner: buffer::listener(socket), address: local })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub async fn accept(&self) -> Result<Stream, Error> {
        let accepted = self.inner.accept().await.map_err(io_error).and_then(|stream| {
            stream.set_nodelay(true).map_err(io_error)?;
            Ok(stream)
        });
        let here = Address::Tcp(self.address);
        let inner = accepted.map_err(|source| net_error("accept on", Some(&here), source))?;
        let peer = inner.peer_addr().ok().map(Address::Tcp);
        Ok(Stream { inner, peer })
    }
}

fn listening_socket(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::Shards)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// Resolves a name off the shard; the answer comes back through the shard's own doorbell.
pub fn resolve(host: &str, port: u16) -> Answer<io::Result<Vec<SocketAddr>>> {
    let host = host.to_owned();
    offload(Blocking::Names, move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect))
}

/// Resolves, and takes the first address; literal addresses need no thread.
pub async fn address_of(host: &str, port: u16) -> Result<Address, Error> {
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(Address::Tcp(SocketAddr::new(ip, port)));
    }
    let failed = |source| Error::Net { operation: "look up", peer: host.to_owned(), source };
    let found = resolve(host, port).await.map_err(|refused: Refused| Error::Refused(refused))?;
    let first = found.map_err(failed)?.into_iter().next();
    first.map(Address::Tcp).ok_or_else(|| failed(io::Error::new(io::ErrorKind::NotFound, "no address")))
}

fn net_error(operation: &'static str, peer: Option<&Address>, source: io::Error) -> Error {
    Error::Net { operation, peer: peer_text(peer), source }
}

fn peer_text(peer: Option<&Address>) -> String {
    peer.map_or_else(|| "a peer".to_owned(), Address::to_string)
}
