#!/bin/sh
# Compiles handler.ts. docs/wasm-abi.md explains the flags, which place the module in the port's memory.
# In a project of your own the runtime is in node_modules/twinpath/wasm/include.
set -eu
cd "$(dirname "$0")"
npx --no asc handler.ts -o "${1-handler.wasm}" -O --enable threads --sharedMemory --importMemory --noExportMemory \
  --initialMemory 1 --maximumMemory 65536 --runtime ../../wasm/include/twinpath-runtime
