/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A filter of system calls, for all threads and for ever (seccomp(2)).
 *
 * It is a list of what is refused, not of what is allowed: what the C library, libfuse
 * and GLib call changes from version to version, and a call that is missing in a list of
 * allowed ones fails in a guest's write one day. What a server of files never does is known and
 * stays so: start a program, trace or read other processes, mount, change namespaces, load code
 * into the kernel. These give EPERM, and the calls of another machine's ABI too, with which the
 * list could be passed by. It is the second line of defence: each of them but exec and ptrace
 * needs a capability that is dropped already, or is a part of the kernel that was a way in before.
 */
#pragma once

/* Installs the filter in the calling thread and those that it starts; no_new_privs must be set. Not
 * in a program with sanitizers, which do some of this themselves, and not on machines whose
 * name the kernel's filters give is unknown here. */
void syscall_filter_install (void);
