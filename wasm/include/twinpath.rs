//! Twinpath's WebAssembly ABI, version 2, for Rust without std. docs/wasm-abi.md explains it.
//!
//!     rustc handler.rs --target wasm32-unknown-unknown --crate-type cdylib -O -C panic=abort \
//!         -C target-feature=+atomics,+bulk-memory,+mutable-globals -C link-args="--no-check-features --shared-memory \
//!         --import-memory --initial-memory=65536 --max-memory=4294967296 -z stack-size=1024 \
//!         --export=__stack_pointer --export=__wasm_init_tls --export=__tls_size --export=__tls_align"
//!
//! ```ignore
//! #![no_std]
//! #[path = "path/to/twinpath/wasm/include/twinpath.rs"]
//! mod twinpath;
//! use twinpath::*;
//!
//! #[no_mangle]
//! pub extern "C" fn burst(burst: &mut Burst, length: usize) {
//!     for i in 0..length { burst.verdict[i] = TX; }
//! }
//! ```
//!
//! All workers share the statics, as threads do: use constants only, or atomics. Each worker has its own stack and its own
//! area of the context.

#![allow(dead_code)]

pub const TWINPATH_ABI: i32 = 2;
pub const BURST: usize = 64;

/// Verdicts. Before the call every packet has DROP.
pub const DROP: u8 = 0;
pub const TX: u8 = 1;
pub const FORWARD: u8 = 2;
pub const PASS: u8 = 3;
pub const DELIVER: u8 = 4;
/// Beside TX, FORWARD or PASS: the application gets a copy, and the packet goes its way.
pub const TEE: u8 = 8;

/// Metadata: a module that exports `twinpath_metadata() -> i32` returns the sum of what it uses.
pub const TIME: i32 = 1;
pub const HASH: i32 = 2;
pub const CHECKSUM: i32 = 4;
pub const RULE: i32 = 8;
pub const TAG: i32 = 16;
pub const OFFLOAD: i32 = 32;

/// `offload`: the port writes the checksums of TCP or UDP and of IPv4.
pub const CHECKSUM_UNFINISHED: u32 = 0x100_0000;
/// `offload`: the port cuts the packet into segments with so many bytes of payload. `kind` is one of the next three.
#[inline(always)]
pub const fn segments(bytes: u32, kind: u32) -> u32 {
    bytes | kind << 16 | CHECKSUM_UNFINISHED
}
pub const TCP_V4: u32 = 1;
pub const TCP_V6: u32 = 4;
pub const UDP: u32 = 5;
/// `tag`: the port inserts a VLAN tag. `control` has priority (3 bits), drop eligible (1) and VLAN ID (12).
#[inline(always)]
pub const fn insert_tag(control: u32) -> u32 {
    0x10000 | control
}

/// The packets of the call: the first `length` entries of each array.
#[repr(C)]
pub struct Burst {
    /// Address of each packet. The module may move it inside its frame.
    pub packet: [*mut u8; BURST],
    /// Length, without the frame check sequence.
    pub bytes: [i32; BURST],
    /// RSS hash; 0 if none was computed.
    pub hash: [u32; BURST],
    /// Work that is left: segment bytes, kind << 16, unfinished checksum << 24. With OFFLOAD an order.
    pub offload: [u32; BURST],
    /// Number of the port that it came from.
    pub port: [u8; BURST],
    /// 1 synthetic, 2 VF, 3 the machine's own stack.
    pub path: [u8; BURST],
    pub verdict: [u8; BURST],
    /// For FORWARD: number of the port to send it from.
    pub target: [u8; BURST],
    /// With TAG: an order, `insert_tag(control)`, or 0.
    pub tag: [u32; BURST],
    /// With RULE: 1 + index of the flow rule that gave it to the handler; 0 none, or not known.
    pub rule: [i32; BURST],
    /// With TIME: nanoseconds of the device's clock; 0 not known.
    pub time: [u64; BURST],
    /// With CHECKSUM: 1 if the device has verified it; 0 not known.
    pub checksum: [u8; BURST],
}

impl Burst {
    /// The bytes of packet `i`, which must be less than the burst's length.
    #[inline(always)]
    pub fn packet(&mut self, i: usize) -> &mut [u8] {
        // SAFETY: the worker has set both, and no other thread reads the frame before the verdict.
        unsafe { core::slice::from_raw_parts_mut(self.packet[i], self.bytes[i] as usize) }
    }
}

/// Distance from the packet's first byte to its network header, after the Ethernet header and any number of VLAN tags, as in
/// the kernel. The EtherType is in the two bytes before. The packet must have at least 14 bytes.
#[inline]
pub fn network_offset(packet: &[u8]) -> usize {
    let mut l3 = 14;
    while l3 + 4 <= packet.len() && matches!(packet[l3 - 2..l3], [0x81, 0x00] | [0x88, 0xa8]) {
        l3 += 4;
    }
    l3
}

/// The worker that the module runs in.
#[repr(C)]
pub struct Context {
    /// This worker's queue, from 0, and the number of queues.
    pub queue: i32,
    pub queues: i32,
    /// Number of ports, and their MAC addresses: six bytes of each eight.
    pub ports: i32,
    pub macs: *const [u8; 8],
    /// The port's `handlerOptions` as JSON, in UTF-8.
    pub options: *const u8,
    pub options_bytes: i32,
    /// This worker's own memory, zeroed.
    pub area: *mut u8,
    pub area_bytes: i32,
}

#[link(wasm_import_module = "env")]
extern "C" {
    /// The same at every call.
    pub fn context() -> *const Context;
    /// Takes a free frame: the address for its packet, or -1 if none is free. Take one at a time, and post or put it in the
    /// same call.
    pub fn take() -> i32;
    /// Sends the frame that was taken. Returns 0 if the path is full; the frame is then free again.
    pub fn post(packet: *mut u8, bytes: i32) -> i32;
    /// Sends it with orders, as in `offload` and `tag` of a burst; 0 nothing.
    pub fn post_offload(packet: *mut u8, bytes: i32, offload: u32, tag: u32) -> i32;
    /// Frees the frame that was taken.
    pub fn put(packet: *mut u8);
    /// Ends the call with an error. In `init`, openPort rejects with this text (UTF-8); later, the burst is dropped.
    pub fn fail(text: *const u8, bytes: i32) -> !;
}

#[no_mangle]
pub extern "C" fn twinpath_abi() -> i32 {
    TWINPATH_ABI
}

/// A trap: the worker drops and counts the burst.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
