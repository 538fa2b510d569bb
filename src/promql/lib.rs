//! The language of questions: text in, a checked tree out, and back.
//!
//! In: bytes of an expression, a selector or a series description. Out: [`ast::Expr`] with spans, or errors
//! with Prometheus's texts and positions; text, JSON and pretty text of a tree.
//! Owns: the grammar, the functions' signatures, the type rules.
//! Runs on: any thread; pure.
//! Invariant: a tree that was returned is well typed and at most [`MAX_HEIGHT`] high; no input panics.
//! Never: evaluates anything but lengths of time; knows series, samples or the time of day.

pub mod ast;
pub mod functions;

pub use ast::Expr;
pub use functions::Function;

/// The longest text that is parsed. Positions are 32 bits; Prometheus's own request line limit is far lower.
pub const MAX_INPUT: usize = 16 << 20;

/// How high a tree may be. Consumers recurse over it: at about a kilobyte a level in an unoptimized build,
/// this fits the 2 MiB stacks of ordinary threads. A chain of binary operators is as high as it is long.
pub const MAX_HEIGHT: usize = 1_000;

/// What of the language is switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Functions and aggregators marked experimental.
    pub experimental_functions: bool,
    /// `[2 * 5m]`, `offset (1h - step())`; on in Prometheus's server since 3.14.
    pub duration_expressions: bool,
    /// `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `fill`, `fill_left`, `fill_right`.
    pub fill_modifiers: bool,
}

impl Options {
    /// Everything there is.
    pub const ALL: Options = Options {
        experimental_functions: true,
        duration_expressions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
    };
}

impl Default for Options {
    /// What a Prometheus server accepts without any `--enable-feature`.
    fn default() -> Self {
        Options {
            experimental_functions: false,
            duration_expressions: true,
            extended_range_selectors: false,
            fill_modifiers: false,
        }
    }
}
