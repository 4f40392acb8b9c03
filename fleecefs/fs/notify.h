/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a service manager that started fleecefs is told, by the protocol of sd_notify(3): a
 * datagram to the socket that NOTIFY_SOCKET names. That needs no library. */
#pragma once

/* Sends a state, as "READY=1". Does nothing when nobody asked for it. What goes wrong is logged:
 * nobody serves worse for it. Does not block. */
void notify_send (const char *state);
