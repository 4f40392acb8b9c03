/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "fs/syscall-filter.h"

#include <errno.h>
#include <glib.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#if defined(__x86_64__) && !defined(__ILP32__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__) && defined(__LITTLE_ENDIAN__) || defined(__AARCH64EL__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCHITECTURE AUDIT_ARCH_RISCV64
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)                            \
    || __has_feature(memory_sanitizer)
#define SANITIZED
#endif
#endif

#if defined(ARCHITECTURE) && !defined(SANITIZED)

#define X32_BIT 0x40000000U /* x86: the same calls under other numbers */

/* Those that not every kernel header knows have one number on all machines. */
static const unsigned refused[] = {
  /* other programs and processes */
  SYS_execve,
  SYS_execveat,
  SYS_ptrace,
  SYS_process_vm_readv,
  SYS_process_vm_writev,
  SYS_kcmp,
  438, /* pidfd_getfd */
  SYS_personality,

  /* mounts, namespaces */
  SYS_mount,
  SYS_umount2,
  SYS_pivot_root,
  SYS_chroot,
  SYS_unshare,
  SYS_setns,
  428, /* open_tree */
  429, /* move_mount */
  430, /* fsopen */
  431, /* fsconfig */
  432, /* fsmount */
  433, /* fspick */
  442, /* mount_setattr */
  SYS_open_by_handle_at,
  SYS_swapon,
  SYS_swapoff,

  /* the kernel */
  SYS_init_module,
  SYS_finit_module,
  SYS_delete_module,
  SYS_kexec_load,
  SYS_bpf,
  SYS_perf_event_open,
  SYS_userfaultfd,
  SYS_add_key,
  SYS_request_key,
  SYS_keyctl,
  SYS_reboot,
};

void
syscall_filter_install (void)
{
  struct sock_filter code[2 * G_N_ELEMENTS (refused) + 8];
  struct sock_fprog program = { .filter = code };
  unsigned short n = 0;
  const struct sock_filter refuse
      = BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (EPERM & SECCOMP_RET_DATA));

  code[n++] = (struct sock_filter) BPF_STMT (BPF_LD | BPF_W | BPF_ABS,
                                             offsetof (struct seccomp_data, arch));
  code[n++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0);
  code[n++] = refuse;
  code[n++] = (struct sock_filter) BPF_STMT (BPF_LD | BPF_W | BPF_ABS,
                                             offsetof (struct seccomp_data, nr));
  code[n++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1);
  code[n++] = refuse;
  for (unsigned i = 0; i < G_N_ELEMENTS (refused); i++)
    {
      code[n++] = (struct sock_filter) BPF_JUMP (BPF_JMP | BPF_JEQ | BPF_K, refused[i], 0, 1);
      code[n++] = refuse;
    }
  code[n++] = (struct sock_filter) BPF_STMT (BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  program.len = n;
  if (prctl (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) != 0)
    g_info ("cannot install the filter of system calls: %s", g_strerror (errno));
}

#else

void
syscall_filter_install (void)
{
}

#endif
