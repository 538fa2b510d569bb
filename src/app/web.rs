//! The HTTP listeners, and the threads that answer what comes in.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};

/// Threads that answer requests. What takes long leaves them.
const WORKERS: usize = 2;

/// Starts them. Each has an executor of its own: one for all of them wakes a second thread for most requests that the
/// first has just taken, which was a third of what a query for one series costs. They end with the process.
pub fn start_workers() -> io::Result<Vec<Handle>> {
    (0..WORKERS).map(start_worker).collect()
}

fn start_worker(number: usize) -> io::Result<Handle> {
    let name = format!("front-{number}");
    let runtime = Builder::new_current_thread().thread_name(&name).enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name(name).spawn(move || runtime.block_on(std::future::pending::<()>()))?;
    Ok(handle)
}

/// Binds one `--web.listen-address`: `host:port`, or `:port` for all addresses.
pub async fn bind(address: &str) -> Result<TcpListener, String> {
    let full = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address.to_owned() };
    let resolved: Vec<SocketAddr> =
        full.to_socket_addrs().map_err(|e| format!("--web.listen-address={address}: {e}"))?.collect();
    TcpListener::bind(&resolved[..]).await.map_err(|e| {
        let hint = match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                ": another program listens there; choose another --web.listen-address"
            }
            std::io::ErrorKind::PermissionDenied => ": ports below 1024 need privileges",
            _ => "",
        };
        format!("--web.listen-address={address}: {e}{hint}")
    })
}
