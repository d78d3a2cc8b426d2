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

# Asks a server everything that its OpenAPI document allows and forbids (schemathesis).
fuzz-api *arguments:
    .ci/fuzz-api {{ arguments }}

# Starts everything on this machine.
local *arguments:
    cargo run --release -- local {{ arguments }}

# Runs the migrations against ATELIER_MIGRATE_URL.
migrate:
    cargo run --release -- migrate

# Does what decides whether a change lands.
ci:
    .ci/run

# Measures every row of the table of speed against its peers and writes BENCHMARKS.md. ATELIER_BENCH_SECONDS=1 and ATELIER_BENCH_LORA_MIB=128 make it short.
bench:
    #!/usr/bin/env bash
    set -euo pipefail
    export ATELIER_BENCH_ROWS="$(mktemp)"
    trap 'rm -f "$ATELIER_BENCH_ROWS"' EXIT
    # One choice of packages for all of them: another one would build the dependencies once more.
    bench() { cargo bench --profile dist -p atelier-tests-integration -p atelier-postgres "$@"; }
    bench --no-run --bench http_rate --bench run_rate --bench lora_bytes --bench claim --bench report
    bench --bench http_rate
    bench --bench run_rate
    bench --bench lora_bytes
    bench --bench claim -- '^claim/(10000|1000000)$'
    bench --bench report
