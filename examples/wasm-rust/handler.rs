//! The udp-echo example in Rust: sends UDP datagrams for port 7 back, and passes the rest to the machine.
#![no_std]
#[path = "../../wasm/include/twinpath.rs"] // in a project of your own: node_modules/twinpath/wasm/include/twinpath.rs
mod twinpath;
use twinpath::*;

const ECHO_PORT: u16 = 7;
const FIRST_CLIENT_PORT: u16 = 1024;
const IPV4: u16 = 0x0800;
const UDP: u8 = 17;
const TTL: u8 = 64;

fn get16(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn exchange(packet: &mut [u8], a: usize, b: usize, bytes: usize) {
    for i in 0..bytes {
        packet.swap(a + i, b + i);
    }
}

/// The checksum after a 16-bit field has changed: RFC 1624.
fn update16(checksum: u16, before: u16, after: u16) -> u16 {
    let mut sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    !(sum as u16)
}

fn answer(packet: &mut [u8]) -> u8 {
    // Check lengths before reading: an index past the packet's end panics, which drops the whole burst.
    if packet.len() < 42 || packet[0] & 1 != 0 {
        return PASS; // too short for UDP, or a group address
    }
    let ip = network_offset(packet); // after Ethernet and any VLAN tags
    let udp = ip + 20;
    if packet.len() < ip + 28 || get16(packet, ip - 2) != IPV4 || packet[ip] != 0x45 {
        return PASS; // 0x45: version 4, no options
    }
    if get16(packet, ip + 6) & 0x3fff != 0 {
        return PASS; // a fragment
    }
    if packet[ip + 9] != UDP || get16(packet, udp + 2) != ECHO_PORT {
        return PASS;
    }
    // Another echo service would answer the answer, and the two would never stop.
    if get16(packet, udp) < FIRST_CLIENT_PORT {
        return DROP;
    }

    exchange(packet, 0, 6, 6);
    exchange(packet, ip + 12, ip + 16, 4);
    exchange(packet, udp, udp + 2, 2);
    // A checksum stays correct when fields are exchanged. It has to change with the time to live.
    let before = get16(packet, ip + 8);
    packet[ip + 8] = TTL;
    let checksum = update16(get16(packet, ip + 10), before, get16(packet, ip + 8));
    packet[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
    TX
}

#[no_mangle]
pub extern "C" fn burst(burst: &mut Burst, length: usize) {
    for i in 0..length {
        burst.verdict[i] = answer(burst.packet(i));
    }
}
