/**
 * Twinpath's WebAssembly ABI, version 2, for C. docs/wasm-abi.md explains it.
 *
 *     clang --target=wasm32 -nostdlib -O2 -matomics -mbulk-memory -mmutable-globals -ftls-model=local-exec \
 *         -Ipath/to/twinpath/wasm/include \
 *         -Wl,--no-entry,--shared-memory,--import-memory,--initial-memory=65536,--max-memory=4294967296 \
 *         -Wl,-z,stack-size=1024,--export=__stack_pointer \
 *         -Wl,--export=__wasm_init_tls,--export=__tls_size,--export=__tls_align \
 *         handler.c -o handler.wasm
 *
 * Include it in one file of the module. All workers share the static variables, as threads do: use constants only, or
 * atomics. Each worker has its own `_Thread_local` variables and stack.
 */
#ifndef TWINPATH_H
#define TWINPATH_H

#include <stdint.h>

#define TWINPATH_ABI 2
#define TWINPATH_BURST 64

#define TWINPATH_EXPORT(name) __attribute__((export_name(name), used))
#define TWINPATH_IMPORT(name) __attribute__((import_module("env"), import_name(name)))

/** Verdicts. Before the call every packet has DROP. */
enum twinpath_verdict {
  TWINPATH_DROP = 0,
  TWINPATH_TX = 1,
  TWINPATH_FORWARD = 2,
  TWINPATH_PASS = 3,
  TWINPATH_DELIVER = 4,
  /** Beside TX, FORWARD or PASS: the application gets a copy, and the packet goes its way. */
  TWINPATH_TEE = 8,
};

/** Metadata: `twinpath_metadata` returns the sum of what the module uses. */
enum twinpath_metadata_bit {
  TWINPATH_TIME = 1,
  TWINPATH_HASH = 2,
  TWINPATH_CHECKSUM = 4,
  TWINPATH_RULE = 8,
  TWINPATH_TAG = 16,
  TWINPATH_OFFLOAD = 32,
};

/** `offload`: the port writes the checksums of TCP or UDP and of IPv4. */
#define TWINPATH_CHECKSUM_UNFINISHED 0x1000000u
/** `offload`: the port cuts the packet into segments with so many bytes of payload. */
#define TWINPATH_SEGMENTS(bytes, kind) ((uint32_t)(bytes) | (uint32_t)(kind) << 16 | TWINPATH_CHECKSUM_UNFINISHED)
enum twinpath_segmentation { TWINPATH_TCP_V4 = 1, TWINPATH_TCP_V6 = 4, TWINPATH_UDP = 5 };
/** `tag`: the port inserts a VLAN tag. `control` has priority (3 bits), drop eligible (1) and VLAN ID (12). */
#define TWINPATH_INSERT_TAG(control) (0x10000u | (uint32_t)(control))

/** The packets of the call: the first `length` entries of each array. */
struct twinpath_burst {
  /** Address of each packet. The module may move it inside its frame. */
  uint8_t *packet[TWINPATH_BURST];
  /** Length, without the frame check sequence. */
  int32_t bytes[TWINPATH_BURST];
  /** RSS hash; 0 if none was computed. */
  uint32_t hash[TWINPATH_BURST];
  /** Work that is left: segment bytes, kind << 16, unfinished checksum << 24. With TWINPATH_OFFLOAD an order. */
  uint32_t offload[TWINPATH_BURST];
  /** Number of the port that it came from. */
  uint8_t port[TWINPATH_BURST];
  /** 1 synthetic, 2 VF, 3 the machine's own stack. */
  uint8_t path[TWINPATH_BURST];
  /** enum twinpath_verdict. */
  uint8_t verdict[TWINPATH_BURST];
  /** For FORWARD: number of the port to send it from. */
  uint8_t target[TWINPATH_BURST];
  /** With TWINPATH_TAG: an order, TWINPATH_INSERT_TAG(control), or 0. */
  uint32_t tag[TWINPATH_BURST];
  /** With TWINPATH_RULE: 1 + index of the flow rule that gave it to the handler; 0 none, or not known. */
  int32_t rule[TWINPATH_BURST];
  /** With TWINPATH_TIME: nanoseconds of the device's clock; 0 not known. */
  uint64_t time[TWINPATH_BURST];
  /** With TWINPATH_CHECKSUM: 1 if the device has verified it; 0 not known. */
  uint8_t checksum[TWINPATH_BURST];
};

/**
 * Distance from the packet's first byte to its network header, after the Ethernet header and any number of VLAN tags, as in
 * the kernel. The EtherType is in the two bytes before. The packet must have at least 14 bytes.
 */
static inline int32_t twinpath_network_offset(const uint8_t *packet, int32_t bytes) {
  int32_t l3 = 14;
  for (; l3 + 4 <= bytes; l3 += 4) {
    const int type = packet[l3 - 2] << 8 | packet[l3 - 1];
    if (type != 0x8100 && type != 0x88a8) break;
  }
  return l3;
}

/** The worker that the module runs in. */
struct twinpath_context {
  /** This worker's queue, from 0, and the number of queues. */
  int32_t queue;
  int32_t queues;
  /** Number of ports, and their MAC addresses: six bytes of each eight. */
  int32_t ports;
  const uint8_t (*macs)[8];
  /** The port's `handlerOptions` as JSON, in UTF-8, without a final NUL. */
  const char *options;
  int32_t options_bytes;
  /** This worker's own memory, zeroed. */
  uint8_t *area;
  int32_t area_bytes;
};

_Static_assert(sizeof(void *) == 4, "compile with --target=wasm32");
_Static_assert(__builtin_offsetof(struct twinpath_burst, port) == 1024, "the burst is part of the ABI");
_Static_assert(__builtin_offsetof(struct twinpath_burst, time) == 1792, "the burst is part of the ABI");
_Static_assert(sizeof(struct twinpath_burst) == 2368, "the burst is part of the ABI");
_Static_assert(sizeof(struct twinpath_context) == 32, "the context is part of the ABI");

/** The same at every call. */
TWINPATH_IMPORT("context") const struct twinpath_context *twinpath_context(void);
/**
 * Takes a free frame: the address for its packet, or -1 if none is free. Take one at a time, and post or put it in the same
 * call.
 */
TWINPATH_IMPORT("take") int32_t twinpath_take(void);
/** Sends the frame that was taken. Returns 0 if the path is full; the frame is then free again. */
TWINPATH_IMPORT("post") int32_t twinpath_post(uint8_t *packet, int32_t bytes);
/** Sends it with orders, as in `offload` and `tag` of a burst; 0 nothing. */
TWINPATH_IMPORT("post_offload")
int32_t twinpath_post_offload(uint8_t *packet, int32_t bytes, uint32_t offload, uint32_t tag);
/** Frees the frame that was taken. */
TWINPATH_IMPORT("put") void twinpath_put(uint8_t *packet);
/** Ends the call with an error. In `init`, openPort rejects with this text (UTF-8); later, the burst is dropped. */
TWINPATH_IMPORT("fail") _Noreturn void twinpath_fail(const char *text, int32_t bytes);

TWINPATH_EXPORT("twinpath_abi") int32_t twinpath_abi(void) {
  return TWINPATH_ABI;
}

/** Functions that the module defines: `burst`, and the others if it needs them. */
TWINPATH_EXPORT("burst") void burst(struct twinpath_burst *burst, int32_t length);
TWINPATH_EXPORT("init") void init(void) __attribute__((weak));
TWINPATH_EXPORT("tick") void tick(int32_t port) __attribute__((weak));
TWINPATH_EXPORT("twinpath_metadata") int32_t twinpath_metadata(void) __attribute__((weak));

#endif
