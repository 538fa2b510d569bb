//! The binary: the library's command line, nothing else.

fn main() -> std::process::ExitCode {
    systole_loadgen::main()
}
