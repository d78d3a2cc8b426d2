# The commands of this repository; `just` alone lists them.

default:
    @just --list

# Formats the code.
fmt:
    cargo fmt --all

# Checks format, lints, documentation and dependencies.
lint:
    cargo fmt --all -- --check
    cargo clippy --workspace --all-targets --all-features -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
    .ci/dependencies

# Runs every test; no service needs to be started.
test:
    cargo test --workspace

# Checks docker/ and docs/: schemas, lints, and whether they fit each other and the code.
check-deploy:
    .ci/check-deploy

# Starts everything on this machine.
local *arguments:
    cargo run --release -- local {{ arguments }}

# Runs the migrations against ATELIER_MIGRATE_URL.
migrate:
    cargo run --release -- migrate

# Does what decides whether a change lands.
ci:
    .ci/run
