//! The integration tests: one binary, one link. The real program, real sockets, the house rules.

mod machine;
mod stress;
mod tidy;
