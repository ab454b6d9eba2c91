/**
 * Which UDP ports an answer must not be sent to, because something there would answer it in turn.
 *
 * One forged datagram, from a service to a service, is enough to have two of them talk for ever (CVE-2024-2169, CERT
 * VU#417980). A responder cannot see whether its asker is one, but it can see where it claims to be:
 *
 * - below 1024 are the services that RFC 6335 calls System Ports, the ones of VU#417980 among them: echo 7, daytime 13,
 *   quote of the day 17, chargen 19, time 37, DNS 53, TFTP 69, NTP 123. Nobody asks from there: a client's port is an
 *   ephemeral one, and a resolver's is 53 or above 1023 (RFC 5452, 9.2). BSD's inetd has the same rule for its own echo
 *   and chargen, and NFS with it (`dg_badinput`).
 * - of those above, the ones that are known to answer strangers (CISA, alert TA14-017A).
 *
 * Two responders at other ports above 1023 can still be set on each other. So a handler refuses its own port as well,
 * and answers nothing that is an answer where its protocol tells one from a question.
 */

/** Port 0 is nobody's and cannot be answered. */
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
