//! Twinpath's WebAssembly ABI, version 1, for Rust without std. docs/wasm-abi.md explains it.
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
//! Statics are shared by all workers, as threads share them: constants only, or atomics. The stack is each worker's
//! own, and so is what lies in the context's area.

#![allow(dead_code)]

pub const TWINPATH_ABI: i32 = 1;
pub const BURST: usize = 64;

/// Verdicts; DROP is what every packet has before the call.
pub const DROP: u8 = 0;
pub const TX: u8 = 1;
pub const FORWARD: u8 = 2;
pub const PASS: u8 = 3;
pub const DELIVER: u8 = 4;

/// The packets in hand: the first `length` entries of each array.
#[repr(C)]
pub struct Burst {
    /// Where each packet starts. May be moved inside its frame.
    pub packet: [*mut u8; BURST],
    /// Its bytes, without the frame check sequence.
    pub bytes: [i32; BURST],
    /// RSS hash, 0 where none was computed.
    pub hash: [u32; BURST],
    /// What its path leaves to be done: segment bytes, kind << 16, unfinished checksum << 24.
    pub offload: [u32; BURST],
    /// Number of the port it came from.
    pub port: [u8; BURST],
    /// 1 synthetic, 2 VF, 3 the machine's own stack.
    pub path: [u8; BURST],
    pub verdict: [u8; BURST],
    /// For FORWARD: the port to send it by.
    pub target: [u8; BURST],
}

impl Burst {
    /// The bytes of packet `i` of the burst's length.
    #[inline(always)]
    pub fn packet(&mut self, i: usize) -> &mut [u8] {
        // SAFETY: the worker filled in both, and nobody else looks at the frame before the verdict.
        unsafe { core::slice::from_raw_parts_mut(self.packet[i], self.bytes[i] as usize) }
    }
}

/// Distance from the packet's first byte to its network header: behind the Ethernet header and any number of VLAN tags,
/// where the kernel finds it. The EtherType is in the two bytes before. The packet has at least 14 bytes.
#[inline]
pub fn network_offset(packet: &[u8]) -> usize {
    let mut l3 = 14;
    while l3 + 4 <= packet.len() && matches!(packet[l3 - 2..l3], [0x81, 0x00] | [0x88, 0xa8]) {
        l3 += 4;
    }
    l3
}

/// What the worker tells the module about where it runs.
#[repr(C)]
pub struct Context {
    /// This worker's queue, from 0, and how many there are.
    pub queue: i32,
    pub queues: i32,
    /// Ports, and their MAC addresses: six bytes of each eight.
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
    /// A free frame: where its packet starts, or -1 if none is free. One at a time; post or put it in the same call.
    pub fn take() -> i32;
    /// Sends the frame that was taken. 0, and the frame is free again, if the path is full.
    pub fn post(packet: *mut u8, bytes: i32) -> i32;
    /// Frees the frame that was taken.
    pub fn put(packet: *mut u8);
    /// Ends the call with an error: in `init` openPort rejects with this text, later it costs the burst.
    pub fn fail(text: *const u8, bytes: i32) -> !;
}

#[no_mangle]
pub extern "C" fn twinpath_abi() -> i32 {
    TWINPATH_ABI
}

/// A trap: it costs the burst and is counted.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    core::arch::wasm32::unreachable()
}
