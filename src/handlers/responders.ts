/**
 * UDP ports to which an answer must not be sent, because a service there may answer it.
 *
 * One forged datagram from one service to another can start an endless exchange (CVE-2024-2169, CERT VU#417980). A
 * responder cannot see whether its client is a service, but it sees the source port. It must not answer:
 *
 * - ports below 1024, RFC 6335's System Ports. The services of VU#417980 are among them: echo 7, daytime 13, quote of the
 *   day 17, chargen 19, time 37, DNS 53, TFTP 69, NTP 123. Clients use ephemeral ports, and resolvers 53 or a port above
 *   1023 (RFC 5452, 9.2). BSD's inetd has the same rule for its echo and chargen, with NFS added (`dg_badinput`);
 * - higher ports of services that are known to answer any client (CISA, alert TA14-017A).
 *
 * Two responders at other ports above 1023 remain possible. So a handler must also refuse its own port, and must not answer
 * an answer, if its protocol distinguishes questions and answers.
 */

/** Ports below it, including port 0, which cannot be answered. */
const FIRST_USER_PORT = 1024;

export function isResponder(port: number): boolean {
  if (port < FIRST_USER_PORT) return true;
  switch (port) {
    case 1900: // SSDP
    case 2049: // NFS
    case 3702: // WS-Discovery
    case 5353: // multicast DNS
    case 11211: // memcached
    case 27015: // Steam
    case 27960: // Quake
      return true;
    default:
      return false;
  }
}
