#!/bin/sh
# Compiles handler.c. docs/wasm-abi.md explains the flags, which place the module in the port's memory.
# In a project of your own the headers are in node_modules/twinpath/wasm/include.
set -eu
cd "$(dirname "$0")"
clang --target=wasm32 -nostdlib -O2 -Wall -Wextra -matomics -mbulk-memory -mmutable-globals -ftls-model=local-exec \
  -I ../../wasm/include \
  -Wl,--no-entry,--shared-memory,--import-memory,--initial-memory=65536,--max-memory=4294967296 \
  -Wl,-z,stack-size=1024,--export=__stack_pointer \
  -Wl,--export=__wasm_init_tls,--export=__tls_size,--export=__tls_align \
  handler.c -o "${1-handler.wasm}"
