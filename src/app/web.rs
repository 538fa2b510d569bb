//! The HTTP listeners.

use std::net::{SocketAddr, ToSocketAddrs};

use tokio::net::TcpListener;

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
