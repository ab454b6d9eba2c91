#!/bin/sh
# Compiles handler.rs. docs/wasm-abi.md explains the flags, which place the module in the port's memory.
set -eu
cd "$(dirname "$0")"
rustc handler.rs -o "${1-handler.wasm}" --target wasm32-unknown-unknown --crate-type cdylib -O \
  -C panic=abort -C strip=debuginfo \
  -C target-feature=+atomics,+bulk-memory,+mutable-globals \
  -C link-args="--no-check-features --shared-memory --import-memory --initial-memory=65536 \
  --max-memory=4294967296 -z stack-size=1024 --export=__stack_pointer \
  --export=__wasm_init_tls --export=__tls_size --export=__tls_align"
