//! The thin binary: reads flags, starts the appliance.
fn main() {}
