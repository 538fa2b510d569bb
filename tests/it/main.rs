//! The integration tests: one binary, one link. The real program, real sockets, the house rules.

mod api;
mod blocks;
mod deletes;
mod differential;
mod downsample;
mod duplicates;
mod exchange;
mod formats;
mod house;
mod machine;
mod otlp;
mod out_of_order;
mod parity;
mod peers;
mod push;
mod recovery;
mod remote;
mod scrape;
mod snapshots;
mod stress;
mod target;
mod tidy;
