//! The load generator: targets to scrape, and the measurement of who scrapes them.
fn main() {}
