//! The server as it ships, for tests that need a process to start and to kill.

fn main() -> std::process::ExitCode {
    atelier::main()
}
