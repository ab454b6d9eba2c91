/* The udp-echo example in C: sends UDP datagrams for port 7 back, and passes the rest to the machine. */
#include "twinpath.h"

enum { ECHO_PORT = 7, FIRST_CLIENT_PORT = 1024, IPV4 = 0x0800, UDP = 17, TTL = 64 };

/* Packets are big-endian and WebAssembly is little-endian, so a field is read byte by byte. */
static uint32_t get16(const uint8_t *at) { return at[0] << 8 | at[1]; }

static void set16(uint8_t *at, uint32_t value) {
  at[0] = value >> 8;
  at[1] = value;
}

static void exchange(uint8_t *a, uint8_t *b, int bytes) {
  for (int i = 0; i < bytes; i++) {
    const uint8_t byte = a[i];
    a[i] = b[i];
    b[i] = byte;
  }
}

/* The checksum after a 16-bit field has changed: RFC 1624. */
static uint32_t update16(uint32_t checksum, uint32_t before, uint32_t after) {
  uint32_t sum = (~checksum & 0xffff) + (~before & 0xffff) + after;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

static uint8_t answer(uint8_t *packet, int32_t bytes) {
  /* No access is checked: compare lengths before each one. */
  if (bytes < 42 || packet[0] & 1) return TWINPATH_PASS; /* too short for UDP, or a group address */
  const int32_t l3 = twinpath_network_offset(packet, bytes); /* after Ethernet and any VLAN tags */
  uint8_t *ip = packet + l3;
  uint8_t *udp = ip + 20;
  if (bytes < l3 + 28 || get16(ip - 2) != IPV4 || ip[0] != 0x45) return TWINPATH_PASS; /* 0x45: no options */
  if ((get16(ip + 6) & 0x3fff) != 0) return TWINPATH_PASS; /* a fragment */
  if (ip[9] != UDP || get16(udp + 2) != ECHO_PORT) return TWINPATH_PASS;
  /* Another echo service would answer the answer, and the two would never stop. */
  if (get16(udp) < FIRST_CLIENT_PORT) return TWINPATH_DROP;

  exchange(packet, packet + 6, 6);
  exchange(ip + 12, ip + 16, 4);
  exchange(udp, udp + 2, 2);
  /* A checksum stays correct when fields are exchanged. It has to change with the time to live. */
  const uint32_t before = get16(ip + 8);
  ip[8] = TTL;
  set16(ip + 10, update16(get16(ip + 10), before, get16(ip + 8)));
  return TWINPATH_TX;
}

void burst(struct twinpath_burst *burst, int32_t length) {
  for (int32_t i = 0; i < length; i++) burst->verdict[i] = answer(burst->packet[i], burst->bytes[i]);
}
