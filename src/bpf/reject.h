/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * What the sender of a packet is told whom a policy rejects.
 */
#include "packet.h"

/*
 * Makes a packet of the encapsulated path its own answer: of TCP a reset (RFC 9293,
 * section 3.10.7.1), of all else "communication administratively prohibited" (RFC 1812,
 * section 5.2.7.1; RFC 4443, section 3.1). It comes from whom the packet was for. 1; 0: nobody is
 * told, and the packet may be damaged.
 *
 * Nobody is told of a reset, of ICMP but echo requests, of SCTP, of fragments, and of packets with
 * options or extension headers.
 */
extern int slim_reject(struct __sk_buff *skb, const struct packet *p);
