//! Passport to be written by the room's first inhabitant.
pub mod value;
