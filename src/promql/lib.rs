//! The language of questions: text in, a checked tree out, and back.
//!
//! In: bytes of an expression, a selector or a series description. Out: [`ast::Expr`] with spans, or errors
//! with Prometheus's texts and positions; text, JSON and pretty text of a tree.
//! Owns: the grammar, the functions' signatures, the type rules.
//! Runs on: any thread; pure.
//! Invariant: a tree that was returned is well typed and at most [`MAX_HEIGHT`] high; no input panics.
//! Never: evaluates anything but lengths of time; knows series, samples or the time of day.

pub mod ast;
mod check;
pub mod duration;
pub mod error;
pub mod functions;
mod json;
mod lexer;
mod modifiers;
mod number;
mod parser;
mod pretty;
mod print;
pub mod series;
mod token;

#[cfg(test)]
mod tests;

pub use ast::Expr;
pub use error::{Error, line_and_column};
pub use functions::Function;
pub use series::{SeriesDescription, parse_metric, parse_series};

/// The longest text that is parsed. Positions are 32 bits; Prometheus's own request line limit is far lower.
pub const MAX_INPUT: usize = 16 << 20;

/// How high a tree may be. Consumers recurse over it: at about a kilobyte a level in an unoptimized build,
/// this fits the 2 MiB stacks of ordinary threads. A chain of binary operators is as high as it is long.
pub const MAX_HEIGHT: usize = 1_000;

/// How deep parentheses, calls, unary operators and right-bound operators may nest: the parser itself
/// recurses over these, with several frames a level. People's queries nest below 30.
pub const MAX_NESTING: usize = 200;

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

/// Parses and checks an expression.
///
/// Bytes, not text: what is not UTF-8 is refused with Prometheus's words, where Prometheus refuses it.
pub fn parse(input: impl AsRef<[u8]>, options: Options) -> Result<Expr, Error> {
    parser::Parser::new(input.as_ref(), options).parse_all()
}

/// Parses a selector alone, as `match[]` of the HTTP API has it. An empty selector is the caller's to refuse.
pub fn parse_metric_selector(
    input: impl AsRef<[u8]>,
    options: Options,
) -> Result<Vec<model::Matcher>, Error> {
    parser::Parser::new(input.as_ref(), options).parse_selector()
}
